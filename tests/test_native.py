"""The optional kernels on oneDNN: their values, when programs use them, and how jtorch goes on where they can't be made.

What needs them is skipped where they are not installed (pip install 'jtorch-xla[onednn]').
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jtorch as torch
from jtorch import _native
from jtorch._native import __main__ as command
from jtorch._native import build
from jtorch._ops import _batch_norm, _bilinear, _conv_forms
from jtorch._ops._conv_geometry import Geometry

needs_kernels = pytest.mark.skipif(not _native.available(), reason="the oneDNN kernels are not installed")

# Batch, channels in, channels out, groups; a tuple entry a spatial dim: size, kernel, stride, padding, dilation.
CASES = {
    "plain": ((2, 8, 16, 1), [(9, 3, 1, 1, 1), (8, 3, 1, 0, 1)]),
    "odd channels": ((3, 5, 7, 1), [(9, 3, 1, 1, 1), (8, 3, 1, 0, 1)]),
    "one channel": ((3, 1, 6, 1), [(9, 3, 1, 1, 1), (8, 5, 1, 0, 1)]),
    "strided": ((2, 16, 32, 1), [(9, 4, 2, 1, 1), (8, 3, 3, 0, 1)]),
    "one tap": ((2, 16, 8, 1), [(9, 1, 2, 0, 1), (8, 1, 1, 0, 1)]),
    "holes": ((2, 6, 8, 1), [(9, 2, 3, 1, 2), (11, 3, 2, 2, 3)]),
    "groups": ((2, 12, 8, 2), [(9, 3, 2, 1, 1), (8, 2, 1, 1, 1)]),
    "depthwise": ((2, 16, 16, 16), [(9, 3, 1, 1, 1), (8, 3, 2, 1, 1)]),
    "depthwise, two each": ((2, 6, 12, 6), [(9, 3, 1, 1, 1), (8, 3, 2, 1, 2)]),
    "stride past the kernel": ((2, 8, 8, 1), [(9, 2, 5, 0, 1), (8, 2, 3, 0, 1)]),
    "wide padding": ((2, 8, 8, 1), [(4, 2, 1, 3, 1), (4, 2, 2, 3, 1)]),
    "one position": ((4, 8, 8, 1), [(3, 3, 1, 0, 1), (1, 1, 1, 0, 1)]),
    "one dim": ((3, 8, 16, 1), [(20, 5, 2, 2, 1)]),
    "one dim, groups": ((3, 8, 16, 4), [(20, 3, 1, 2, 2)]),
    "three dims": ((2, 4, 8, 1), [(5, 3, 1, 1, 1), (6, 2, 2, 0, 1), (4, 3, 1, 1, 1)]),
}


def _case(name):
    (batch, inner, outer, groups), dims = CASES[name]
    spatial, kernel, stride, padding, dilation = zip(*dims, strict=True)
    at = Geometry(spatial, kernel, stride, tuple((p, p) for p in padding), dilation, groups)
    draw = np.random.default_rng(0).standard_normal
    return (
        draw((batch, inner, *spatial), np.float32),
        draw((outer, inner // groups, *kernel), np.float32),
        draw((batch, outer, *at.out), np.float32),
        at,
    )


@needs_kernels
@pytest.mark.parametrize("name", CASES)
def test_convolution_values(name):
    x, w, g, at = _case(name)
    for map, (a, b, out, plain) in enumerate(
        ((x, w, g, _conv_forms.correlate), (g, w, x, _conv_forms.spread_back), (x, g, w, _conv_forms.taps_of))
    ):
        assert _native.convolution_name(map, x.shape, w.shape, at)
        got = jax.jit(lambda a, b, map=map, out=out: _native.convolution(map, a, b, out.shape, at))(a, b)
        wanted = plain(a.astype(np.float64), b.astype(np.float64), at)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6 * float(abs(wanted).max()))


@needs_kernels
@pytest.mark.parametrize(("shape", "middle"), [
    ((4, 16, 5, 7), 0.0), ((3, 3, 40, 41), 1e4), ((2, 70, 3), -5.0), ((5, 1, 4, 4, 4), 1e3), ((2, 5000, 2), 1.0),
    ((64, 48, 30, 30), 100.0),
])  # fmt: skip
def test_sums_a_channel(shape, middle):
    draw = np.random.default_rng(0).standard_normal
    x, g = draw(shape, np.float32) + np.float32(middle), draw(shape, np.float32)
    axes = (0, *range(2, len(shape)))
    wide = x.astype(np.float64)
    mean, variance = jax.jit(_native.moments)(x)
    np.testing.assert_allclose(mean, wide.mean(axes), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, wide.var(axes), rtol=2e-5)
    total, product = jax.jit(_native.products)(g, x, mean)
    deviation = wide - np.asarray(mean, np.float64).reshape(-1, *(1,) * (len(shape) - 2))
    size = np.sqrt(g.size // shape[1])
    np.testing.assert_allclose(total, g.astype(np.float64).sum(axes), atol=2e-6 * size)
    np.testing.assert_allclose(product, (g * deviation).sum(axes), atol=1e-5 * size)


@needs_kernels
def test_variance_of_equal_values_is_zero():
    for value in (0.0, 0.1, 1e6):
        _, variance = _native.moments(jnp.full((3, 4, 9, 5), value, jnp.float32))
        assert (np.asarray(variance) <= 1e-12 * max(value, 1) ** 2).all()


@needs_kernels
def test_no_number_stays_none():
    x = jnp.zeros((2, 3, 8, 8)).astype(jnp.float32).at[0, 1, 2, 2].set(jnp.nan).at[1, 2, 0, 0].set(jnp.inf)
    mean, variance = _native.moments(x)
    assert np.isnan(mean).tolist() == [False, True, False] and np.isinf(mean).tolist() == [False, False, True]
    assert np.isnan(variance).tolist() == [False, True, True]


@needs_kernels
def test_where_kernels_are_used():
    x, w, _, at = _case("plain")
    convolve = jax.jit(lambda x, w: _bilinear.correlate(x, w, at))
    assert _native.CONVOLUTION in convolve.lower(x, w).as_text()
    assert _native.CONVOLUTION not in convolve.lower(x.astype(np.float64), w.astype(np.float64)).as_text()
    # oneDNN has nothing of its own for several results of one channel.
    a, b, _, apart = _case("depthwise, two each")
    assert _native.CONVOLUTION not in jax.jit(lambda x, w: _bilinear.correlate(x, w, apart)).lower(a, b).as_text()
    # A program that is exported runs where this process's kernels are not.
    assert _native.CONVOLUTION not in jax.export.export(convolve)(x, w).mlir_module()
    assert not _batch_norm.fits(jnp.ones((4, 8), jnp.float32)) and not _batch_norm.fits(jnp.ones((4, 8, 2), jnp.int32))


@needs_kernels
def test_batch_norm_transformations():
    draw = np.random.default_rng(0).standard_normal
    x, w, b = draw((3, 4, 5), np.float32), draw(4, np.float32), draw(4, np.float32)

    def plain(x, w, b, eps):
        mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
        y = (x - mean) / jnp.sqrt(var + eps) * w[:, None] + b[:, None]
        return y, mean.reshape(-1), var.reshape(-1)

    def through(normalize):
        def loss(x, w, b):
            y, mean, var = normalize(x, w, b, 1e-3)
            return jnp.sin(y).sum() + (mean * var).sum()

        def steep(x, w, b):
            return sum((g**2).sum() for g in jax.grad(loss, (0, 1, 2))(x, w, b))

        return jax.jit(lambda: [
            jax.grad(loss, (0, 1, 2))(x, w, b),
            jax.grad(loss)(x, w, b),
            jax.jvp(loss, (x, w, b), (x * x, b, w)),
            jax.grad(steep, (0, 1, 2))(x, w, b),
            jax.jvp(jax.grad(loss), (x, w, b), (x, w, b)),
            jax.vmap(jax.grad(loss), (0, None, None))(jnp.stack([x, 2 * x]), w, b),
        ])()  # fmt: skip

    for ours, theirs in zip(*(jax.tree.leaves(through(f)) for f in (_batch_norm.normalize, plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@needs_kernels
def test_empty_and_not_contiguous():
    conv = torch.nn.Conv2d(3, 4, 3)
    assert conv(torch.ones(0, 3, 5, 5)).shape == (0, 4, 3, 3)
    x = torch.randn(2, 5, 6, 3)
    assert torch.equal(conv(x.permute(0, 3, 1, 2)), conv(x.permute(0, 3, 1, 2).contiguous()))


@pytest.fixture
def _afresh(monkeypatch):
    """As in a process that has not looked for the kernels yet."""
    monkeypatch.setattr(_native, "_found", [])
    monkeypatch.delenv("JTORCH_NATIVE", raising=False)
    monkeypatch.delenv("ONEDNN_ROOT", raising=False)


@pytest.mark.usefixtures("_afresh")
def test_without_onednn(monkeypatch, capsys):
    monkeypatch.setattr(build, "PACKAGE", "no-such-package")
    assert not _native.available()
    assert command.main() == 1 and "not installed" in capsys.readouterr().err


@pytest.mark.usefixtures("_afresh")
def test_switched_off(monkeypatch):
    monkeypatch.setenv("JTORCH_NATIVE", "0")
    assert not _native.available() and _native.why_not() == "JTORCH_NATIVE=0"


@pytest.mark.usefixtures("_afresh")
@pytest.mark.parametrize(
    ("compiler", "words"), [("", "no C++ compiler"), ("false", "failed"), ("no-such-compiler", "No such file")]
)
def test_what_cannot_be_made_is_said_once(monkeypatch, tmp_path, capsys, compiler, words):
    header = tmp_path / "include" / "oneapi" / "dnnl" / "dnnl.hpp"
    header.parent.mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    for file in (header, tmp_path / "lib" / "libdnnl.so.3"):
        file.touch()
    monkeypatch.setenv("ONEDNN_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    if not compiler:
        monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert command.main() == 1
    with pytest.warns(RuntimeWarning, match="goes on without") as warned:
        assert not _native.available() and not _native.available()
    assert len(warned) == 1 and words in str(warned[0].message)
    assert words in capsys.readouterr().err
    header.unlink()
    with pytest.raises(build.Failed, match="does not exist"):
        build.made()
