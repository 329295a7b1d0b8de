"""The autoencoder of vectors: its divergence in closed form, draws and means, what it reconstructs."""

import numpy as np
import pytest
import torch

from nolabel.encoders.vector_vae import VectorVAE, divergence


def test_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_loss_terms_and_errors_in_evaluation_follow_from_the_mean():
    torch.manual_seed(0)
    vae, vectors = VectorVAE(6, 2).eval(), torch.randn(4, 6)
    mean, log_variance = vae.encode(vectors)
    expected = (vae.decode(mean) - vectors).square().sum(dim=1)
    torch.testing.assert_close(vae.errors(vectors), expected)
    error, kl = vae.loss_terms(vectors)
    torch.testing.assert_close(error, expected.mean())
    torch.testing.assert_close(kl, divergence(mean, log_variance).mean())


def test_a_latent_is_drawn_while_training_or_when_asked():
    torch.manual_seed(0)
    vae, vectors = VectorVAE(6, 2), torch.randn(4, 6)
    assert not torch.equal(vae(vectors), vae(vectors))
    assert torch.equal(vae(vectors, sample=False), vae(vectors, sample=False))
    vae.eval()
    assert torch.equal(vae(vectors), vae(vectors))
    assert not torch.equal(vae(vectors, sample=True), vae(vectors, sample=True))


def test_decoders():
    far = 50 * torch.randn(8, 6)
    bounded = VectorVAE(6, 2, decoder="sigmoid").eval()(far)
    assert bounded.min() >= 0
    assert bounded.max() <= 1
    assert VectorVAE(6, 2).eval()(far).abs().max() > 1
    with pytest.raises(ValueError, match="decoder must be one of linear, sigmoid, got 'relu'"):
        VectorVAE(6, 2, decoder="relu")
    with pytest.raises(ValueError, match="dim and latent_dim must be at least 1, got 6 and 0"):
        VectorVAE(6, 0)


def test_it_learns_where_vectors_lie():
    from nolabel.protect.vectors import VectorAutoencoder
    from nolabel.training import Training

    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 12)).astype(np.float32)
    inside = (rng.normal(size=(256, 2)) @ plane).astype(np.float32)
    vae = VectorAutoencoder(2).fit_few(inside, Training(epochs=100, lr=3e-3, progress=False)).net_
    outside = torch.randn(64, 12, generator=torch.Generator().manual_seed(0)) * inside.std()
    with torch.no_grad():
        near, far = vae.errors(torch.from_numpy(inside)).mean(), vae.errors(outside).mean()
    assert near < 0.15 * inside.var(axis=0).sum()
    assert far > 4 * near
