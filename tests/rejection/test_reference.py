"""References: the frozen view is the pre-trained model, the trainable view starts as it and learns alone."""

import pytest
import torch

from graft_lightning.processes.grids import Explicit
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.schedules import Trigonometric
from graft_lightning.rejection.reference import FrozenDenoiser, LoRA, TrainableDenoiser, adapters_off, open_views
from graft_lightning.types import SettingsError
from tests.fakes import CONDITIONS, GaussianReference, TinyReference

X, T = torch.randn(4, 2), torch.full((4,), 300.0, dtype=torch.float64)


def condition(reference):
    return reference.encode(CONDITIONS * 2, "cpu")


def train(reference, views, steps=3):
    """A few steps of SGD through the objective, all that is trainable."""
    trained = [p for p in views.network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    for step in range(steps):
        noise = Noise(torch.arange(4) + 4 * step)
        loss = Objective().loss(views.trainable, reference.process, X, condition(reference), noise)
        optimiser.zero_grad()
        loss.value.mean().backward()
        optimiser.step()
    return trained


@pytest.mark.parametrize("lora", [None, LoRA(rank=2), LoRA(rank=2, alpha=8, target_modules=["second"])], ids=str)
@pytest.mark.parametrize("scale", [1.0, 2.5])
class TestViews:
    def open(self, lora, scale, **settings):
        reference = TinyReference(guidance_scale=scale)
        untouched = open_views(reference, reference.build(), **settings)
        return reference, open_views(reference, reference.build(), lora, **settings), untouched.frozen

    def test_both_views_start_as_the_reference(self, lora, scale):
        reference, views, original = self.open(lora, scale)
        expected = original(X, T, condition(reference))
        assert torch.equal(views.frozen(X, T, condition(reference)), expected)
        torch.testing.assert_close(views.trainable(X, T, condition(reference)), expected)

    def test_training_leaves_the_frozen_view_exactly_as_it_was(self, lora, scale):
        reference, views, original = self.open(lora, scale)
        train(reference, views)
        expected = original(X, T, condition(reference))
        assert torch.equal(views.frozen(X, T, condition(reference)), expected)
        assert (views.trainable(X, T, condition(reference)) - expected).abs().min() > 1e-6

    def test_gradients_reach_the_trained_parameters_and_no_others(self, lora, scale):
        reference, views, _ = self.open(lora, scale)
        trained = {name for name, p in views.network.named_parameters() if p.requires_grad}
        train(reference, views, 1)
        reached = {name for name, p in views.network.named_parameters() if p.grad is not None}
        assert reached == trained
        if lora is None:
            assert trained == {name for name, _ in views.network.named_parameters()}
            assert all(p.grad is None and not p.requires_grad for p in views.original.parameters())
        else:
            assert trained
            assert all(".lora_" in name for name in trained)
            assert views.network is views.original
            if lora.target_modules:
                assert all(name.startswith("second.") for name in trained)

    def test_the_frozen_view_restores_what_is_trainable(self, lora, scale):
        reference, views, _ = self.open(lora, scale)
        before = {name: p.requires_grad for name, p in views.network.named_parameters()}
        views.frozen(X, T, condition(reference))
        assert {name: p.requires_grad for name, p in views.network.named_parameters()} == before

    def test_a_call_of_the_frozen_view_between_forward_and_backward_is_harmless(self, lora, scale):
        gradients = []
        for disturb in (False, True):
            torch.manual_seed(0)
            reference, views, _ = self.open(lora, scale)
            if lora is not None:  # an adapter starts at zero, where its first matrix has no gradient
                train(reference, views)
            views.network.zero_grad()
            raw = views.trainable(X, T, condition(reference))
            if disturb:
                assert not views.frozen(X, T, condition(reference)).requires_grad
            raw.sum().backward()
            gradients.append([p.grad for p in views.network.parameters() if p.grad is not None])
        for plain, disturbed in zip(*gradients, strict=True):
            assert torch.equal(plain, disturbed)


def test_the_types_of_the_views_differ():
    reference = TinyReference()
    views = open_views(reference, reference.build())
    assert type(views.frozen) is FrozenDenoiser
    assert type(views.trainable) is TrainableDenoiser
    assert views.frozen.output == views.trainable.output == "epsilon"


def test_a_full_copy_shares_no_memory():
    reference = TinyReference()
    views = open_views(reference, reference.build())
    original = {p.data_ptr() for p in views.original.parameters()}
    assert not original & {p.data_ptr() for p in views.network.parameters()}


def test_without_copies_the_network_itself_is_trained():
    reference = TinyReference()
    network = reference.build()
    views = open_views(reference, network, copies=False)
    assert views.network is views.original is network
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("copies", [True, False])
def test_what_a_network_keeps_fixed_is_not_trained(copies):
    reference = TinyReference()
    network = reference.build()
    fixed = next(name for name, _ in network.named_parameters())
    network.get_parameter(fixed).requires_grad_(False)
    views = open_views(reference, network, copies=copies)
    assert [name for name, p in views.network.named_parameters() if not p.requires_grad] == [fixed]


class TestGuidance:
    def test_composed_trains_the_guided_combination_from_the_frozen_unconditional(self):
        reference = TinyReference(guidance_scale=3.0)
        views = open_views(reference, reference.build())
        train(reference, views)
        network, original = TrainableDenoiser(reference, views.network), FrozenDenoiser(reference, views.original)
        null = reference.encode([""] * 4, "cpu")
        u, c = original(X, T, null), network(X, T, condition(reference))
        torch.testing.assert_close(views.trainable(X, T, condition(reference)), u + 3.0 * (c - u))
        u, c = original(X, T, null), original(X, T, condition(reference))
        torch.testing.assert_close(views.frozen(X, T, condition(reference)), u + 3.0 * (c - u))

    def test_composed_samples_the_reference_at_initialisation(self):
        reference = TinyReference(guidance_scale=3.0)
        views = open_views(reference, reference.build())
        ends = [
            reference.sampler.sample(view, reference.process, condition(reference), Noise(torch.arange(4)), (2,)).x_0
            for view in (views.frozen, views.trainable)
        ]
        torch.testing.assert_close(*ends)

    def test_absorbed_trains_the_conditional_output_alone(self):
        reference = TinyReference(guidance_scale=3.0)
        views = open_views(reference, reference.build(), guidance="absorbed")
        expected = FrozenDenoiser(reference, views.original)(X, T, condition(reference))
        torch.testing.assert_close(views.trainable(X, T, condition(reference)), expected)
        assert (views.frozen(X, T, condition(reference)) - expected).abs().min() > 1e-4

    def test_the_null_condition_is_encoded_once(self):
        reference = TinyReference(guidance_scale=3.0)
        encoded = []
        encode = reference.encode
        reference.encode = lambda texts, device: (encoded.append(list(texts)), encode(texts, device))[1]
        views = open_views(reference, reference.build())
        for _ in range(3):
            views.frozen(X, T, encode(CONDITIONS * 2, "cpu"))
            views.trainable(X, T, encode(CONDITIONS * 2, "cpu"))
        assert encoded == [[""]]


@pytest.mark.parametrize("lora", [None, LoRA(rank=2, dropout=0.5)], ids=["full", "lora"])
def test_the_frozen_view_has_no_dropout(lora):
    """Lightning puts the trained network, which under LoRA is the reference's too, into training mode."""
    reference = TinyReference(dropout=0.5)
    views = open_views(reference, reference.build(), lora)
    views.network.train()
    first, second = (views.frozen(X, T, condition(reference)) for _ in range(2))
    assert torch.equal(first, second)
    assert all(module.training for module in views.network.modules())
    first, second = (views.trainable(X, T, condition(reference)) for _ in range(2))
    assert not torch.equal(first, second)


def test_adapters_come_back_after_an_error():
    reference = TinyReference()
    views = open_views(reference, reference.build(), LoRA(rank=2))
    train(reference, views)
    adapted = views.trainable(X, T, condition(reference))
    with pytest.raises(RuntimeError, match="stop"), adapters_off(views.network):
        raise RuntimeError("stop")
    assert torch.equal(views.trainable(X, T, condition(reference)), adapted)
    assert any(p.requires_grad for p in views.network.parameters())


def test_a_frozen_adapter_stays_frozen():
    """Peft turns gradients on together with the adapter, also those that somebody has turned off."""
    reference = TinyReference()
    views = open_views(reference, reference.build(), LoRA(rank=2))
    views.network.first.requires_grad_(False)
    views.frozen(X, T, condition(reference))
    assert not any(p.requires_grad for p in views.network.first.parameters())
    assert any(p.requires_grad for p in views.network.second.parameters())


def test_lora_scale_is_alpha_over_rank():
    reference = TinyReference()
    updates = []
    for alpha in (None, 8):
        torch.manual_seed(0)
        views = open_views(reference, reference.build(), LoRA(rank=2, alpha=alpha, target_modules=["second"]))
        with torch.no_grad():
            for name, p in views.network.named_parameters():
                if "lora_B" in name:
                    p.fill_(0.1)
        updates.append(views.trainable(X, T, condition(reference)) - views.frozen(X, T, condition(reference)))
    torch.testing.assert_close(updates[1], 4 * updates[0])


def test_blocks_are_the_members_of_lists():
    blocks = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    network = torch.nn.ModuleDict({"blocks": blocks, "head": torch.nn.Linear(2, 1)})
    assert TinyReference().blocks(network) == list(blocks)


def test_constructors_load_nothing(monkeypatch):
    monkeypatch.setattr(TinyReference, "build", lambda self, pretrained=True: pytest.fail("built"))
    reference = TinyReference(DDIM(3))
    assert reference.sampler.levels(reference.process)[-1] == 1000


def test_eps_is_not_asked_for_where_nothing_is_left_of_the_signal():
    reference = GaussianReference(DDIM(4), GaussianPath(Trigonometric()), "epsilon")
    with pytest.raises(SettingsError, match=r"'epsilon' of field 'x'.* t=1, where Trigonometric leaves no signal"):
        open_views(reference, reference.build())
    for sound in (
        GaussianReference(DDIM(4), GaussianPath(Trigonometric()), "v_prediction"),
        GaussianReference(DDIM(2, grid=Explicit([0.0, 0.5, 0.9])), GaussianPath(Trigonometric()), "epsilon"),
    ):
        open_views(sound, sound.build())


class Remembering(TinyReference):
    """Its network keeps numbers that a forward pass in training changes."""

    def build(self, pretrained=True):
        network = super().build(pretrained)
        network.dropout = torch.nn.BatchNorm1d(16)
        network.first = torch.nn.utils.parametrizations.spectral_norm(network.first)
        return network


def test_under_adapters_running_means_are_the_references_and_stay():
    reference = Remembering()
    views = open_views(reference, reference.build(), LoRA(rank=2, target_modules=["second"]))
    expected = views.frozen(X, T, condition(reference))
    buffers = {name: buffer.clone() for name, buffer in views.network.named_buffers()}
    views.network.train()
    torch.testing.assert_close(views.trainable(X, T, condition(reference)), expected)
    train(reference, views)
    assert len(buffers) == 5
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in views.network.named_buffers())
    assert torch.equal(views.frozen(X, T, condition(reference)), expected)


def test_a_whole_network_learns_its_running_means():
    reference = Remembering()
    views = open_views(reference, reference.build())
    before = views.network.dropout.running_mean.clone()
    train(reference, views)
    assert not torch.equal(views.network.dropout.running_mean, before)
    assert torch.equal(views.original.dropout.running_mean, before)


class Built(TinyReference):
    """Gives what it is told to."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def build(self, pretrained=True):
        return self.make(super().build(pretrained))


class Uncopied(torch.nn.Module):
    def __deepcopy__(self, memo):
        raise RuntimeError("it holds a handle")

    def __init__(self, network):
        super().__init__()
        self.network = network


@pytest.mark.parametrize(
    ("make", "lora", "message"),
    [
        (lambda network: None, None, "None; it must return a torch.nn.Module"),
        (lambda network: torch.nn.LazyLinear(3), LoRA(), "whose weight has no shape yet: call it once"),
        (Uncopied, None, r"\(Uncopied\) that cannot be copied, .*RuntimeError: it holds a handle"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_by_name(make, lora, message):
    reference = Built(make)
    with pytest.raises(SettingsError, match=rf"^Built\.build returned .*{message}"):
        open_views(reference, reference.build(), lora)


def test_a_frozen_network_takes_adapters():
    reference = Built(lambda network: network.requires_grad_(False))
    views = open_views(reference, reference.build(), LoRA(rank=2))
    assert any(parameter.requires_grad for parameter in views.network.parameters())


def test_layers_that_an_adapter_does_not_find_are_named_with_those_that_there_are():
    reference = TinyReference()
    with pytest.raises(SettingsError, match=r"model\.lora\.target_modules=\['no'\]: .*an adapter: first, second$"):
        open_views(reference, reference.build(), LoRA(target_modules=["no"]))
    reference.lora_targets = ()
    with pytest.raises(SettingsError, match=r"TinyReference\.lora_targets=\(\): .*an adapter: first, second$"):
        open_views(reference, reference.build(), LoRA())


class Noisy(TinyReference):
    """Its network draws, as one does whose dropout forgets the mode that it is in."""

    def denoise(self, network, x_t, t, condition):
        return torch.nn.functional.dropout(super().denoise(network, x_t, t, condition), 0.5)


@pytest.mark.parametrize(("kind", "warnings"), [(Noisy, 1), (TinyReference, 0)])
def test_a_network_that_draws_by_itself_is_told_once(kind, warnings, caplog):
    reference = kind(dropout=0.5)
    views = open_views(reference, reference.build())
    for _ in range(2):
        views.frozen(X, T, condition(reference))
    assert len([text for text in caplog.messages if "Noisy.denoise draws random numbers" in text]) == warnings
