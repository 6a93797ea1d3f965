"""Velocity fields in closed form: linear ones, whose steps are matrices, and the flow of a Gaussian mixture."""

import torch


def normals(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_eigenvalues(eigenvalues, seed=0):
    """A normal matrix; complex eigenvalues are given once per conjugate pair."""
    blocks = [
        torch.tensor([[z.real, -z.imag], [z.imag, z.real]]) if isinstance(z, complex) else torch.tensor([[float(z)]])
        for z in eigenvalues
    ]
    matrix = torch.block_diag(*blocks).double()
    basis, _ = torch.linalg.qr(normals(*matrix.shape, seed=seed))
    return basis @ matrix @ basis.T


class LinearField:
    """v(x, t) = (1/2 + t) A x + t b. It changes with t, so that reading it at a wrong time gives a wrong answer."""

    def __init__(self, matrix, offset=0.0):
        self.matrix, self.offset = matrix, offset
        self.times = []

    def __call__(self, x, t):
        self.times += sorted(set(t.tolist()))
        return self.at(x, t[0].item())

    def at(self, x, t):
        return (0.5 + t) * (x.flatten(1) @ self.matrix.to(x).T).reshape(x.shape) + t * self.offset

    def step(self, levels, k, method):
        """The affine map of step k, (matrix, offset)."""
        eta = levels[k] - levels[k - 1]
        identity = torch.eye(len(self.matrix), dtype=torch.float64)
        slope, shift = (0.5 + levels[k]) * self.matrix, levels[k] * self.offset * torch.ones(len(identity)).double()
        if method == "heun" and k > 1:
            other, other_shift = (0.5 + levels[k - 1]) * self.matrix, levels[k - 1] * self.offset
            slope, shift = (
                (slope + other @ (identity - eta * slope)) / 2,
                (shift + other_shift - eta * other @ shift) / 2,
            )
        return identity - eta * slope, -eta * shift

    def inverse(self, x, levels, start_level=0, method="euler"):
        """The noise whose sample at t_m is x, by solving with the steps' matrices."""
        for k in range(start_level + 1, len(levels)):
            matrix, offset = self.step(levels, k, method)
            x = torch.linalg.solve(matrix, (x - offset).T).T
        return x


class MixtureFlow:
    """The exact rectified flow of a mixture of Gaussians: v(x, t) = E[eps - x_0 | x_t = x]."""

    def __init__(self, means, covariances, weights):
        self.means, self.log_weights = means.double(), weights.double().log()
        self.variances, self.axes = torch.linalg.eigh(covariances.double())

    @classmethod
    def of_digits(cls, images, labels, ridge=0.05):
        """Every class of digits a Gaussian; images ``(batch, 1, 8, 8)``."""
        rows = [images[labels == label].flatten(1).double() for label in range(10)]
        eye = torch.eye(rows[0].shape[1], dtype=torch.float64)
        return cls(
            torch.stack([x.mean(0) for x in rows]),
            torch.stack([x.T.cov() + ridge * eye for x in rows]),
            torch.tensor([len(x) / len(images) for x in rows]),
        )

    def __call__(self, x, t):
        t = t[0].item()
        variance = ((1 - t) ** 2 * self.variances + t**2).unsqueeze(1)  # (component, 1, d), along its axes
        centred = (x.flatten(1).double() - (1 - t) * self.means.unsqueeze(1)) @ self.axes
        log_density = -0.5 * (centred.square() / variance + variance.log()).sum(2) + self.log_weights.unsqueeze(1)
        shares = log_density.softmax(0).unsqueeze(2)
        score = centred / variance
        velocity = (t * score - (1 - t) * self.variances.unsqueeze(1) * score) @ self.axes.mT - self.means.unsqueeze(1)
        return (shares * velocity).sum(0).reshape(x.shape).to(x.dtype)


def real_digits():
    """All 1,797 digits of scikit-learn in [-1, 1], ``(batch, 1, 8, 8)`` float64, shuffled, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.as_tensor(data.images).double()[order].unsqueeze(1) / 8 - 1
    return images, torch.as_tensor(data.target)[order]
