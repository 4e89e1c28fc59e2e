import numpy as np
import pytest
from support.gradients import check_gradient

from viva_tensor import autograd, error, nn, optim, telemetry
from viva_tensor.autograd import backward, new_constant, new_tape, new_variable
from viva_tensor.error import DtypeError, InvalidShape


def layer_on_tape(rng, batch=4, features=3, outputs=2, dtype="f8"):
    tape, made = new_tape(), []
    for shape in ((batch, features), (outputs, features), (outputs,)):
        variable, tape = new_variable(tape, rng.standard_normal(shape).astype(dtype))
        made.append(variable)
    x, w, b = made
    return x, nn.Linear(w, b), tape


class TestLinear:
    def test_new_layers_draw_xavier_uniform_with_zero_bias(self, dtype):
        layer, tape = nn.linear(new_tape(), 30, 20, rng=np.random.default_rng(3), dtype=dtype)
        bound = (6 / 50) ** 0.5
        assert layer.w.data.shape == (20, 30)
        assert layer.w.data.dtype == layer.b.data.dtype == dtype
        assert not layer.b.data.any()
        assert 0.97 * bound < np.abs(layer.w.data).max() <= np.float32(bound)
        assert abs(layer.w.data.mean()) < 0.05 * bound
        assert len(tape) == 2

    def test_he_is_wider_and_the_seed_decides(self):
        draws = [nn.linear(new_tape(), 30, 20, rng=np.random.default_rng(s), init="he").value.w.data for s in (1, 1, 2)]
        assert np.array_equal(draws[0], draws[1])
        assert not np.array_equal(draws[0], draws[2])
        assert (6 / 50) ** 0.5 < np.abs(draws[0]).max() <= (6 / 30) ** 0.5

    def test_layers_are_frozen_and_read_only(self):
        layer, _ = nn.linear(new_tape(), 2, 2, rng=np.random.default_rng(0))
        with pytest.raises(AttributeError):
            layer.w = layer.b
        for array in (layer.w.data, layer.b.data):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 1

    @pytest.mark.parametrize("features", [(0, 3), (3, 0), (-1, 3)])
    def test_no_features_are_refused(self, features):
        with pytest.raises(error.InvalidShape, match="at least 1"):
            nn.linear(new_tape(), *features, rng=np.random.default_rng(0))

    def test_bad_arguments_are_refused(self):
        rng = np.random.default_rng(0)
        with pytest.raises(error.InvalidValue, match="init='magic'; choose one of xavier, xavier_uniform"):
            nn.linear(new_tape(), 2, 2, rng=rng, init="magic")
        with pytest.raises(error.InvalidValue, match="default_rng"):
            nn.linear(new_tape(), 2, 2, rng=0)
        with pytest.raises(error.DtypeError, match="int32"):
            nn.linear(new_tape(), 2, 2, rng=rng, dtype="int32")


class TestLinearForward:
    @pytest.mark.parametrize("fused", [True, False])
    def test_gradients(self, fused, dtype, rng):
        arrays = [rng.standard_normal(shape) for shape in ((5, 3), (4, 3), (4,))]
        check_gradient(lambda t, x, w, b: nn.linear_forward(t, nn.Linear(w, b), x, fused=fused), arrays, rng, dtype)

    def test_fused_and_stepwise_have_the_same_bits(self, dtype, rng):
        x, layer, tape = layer_on_tape(rng, 37, 300, 19, dtype)
        seed = rng.standard_normal((37, 19)).astype(dtype)
        results = []
        for fused in (True, False):
            y, longer = nn.linear_forward(tape, layer, x, fused=fused)
            grads = backward(longer, y, seed=seed)
            results.append((y.data, grads[x], grads[layer.w], grads[layer.b]))
        for one, other in zip(*results, strict=True):
            assert np.array_equal(one, other)

    @pytest.mark.parametrize("batch", [0, 1])
    def test_a_batch_of_none_or_one(self, batch, rng):
        x, layer, tape = layer_on_tape(rng, batch)
        y, tape = nn.linear_forward(tape, layer, x)
        target, tape = new_constant(tape, np.zeros((batch, 2)))
        loss, tape = nn.mse_loss(tape, y, target)
        grads = backward(tape, loss)
        assert y.data.shape == (batch, 2)
        assert np.isnan(loss.data) == (batch == 0)
        assert grads[layer.w].shape == (2, 3)
        if not batch:
            assert not grads[layer.w].any()

    def test_each_misfit_is_named_with_both_shapes(self, rng):
        _, layer, tape = layer_on_tape(rng)
        wide, tape = new_constant(tape, np.ones((4, 5)))
        flat, tape = new_constant(tape, np.ones(3))
        single, tape = new_constant(tape, np.ones((4, 3), "f4"))
        with pytest.raises(error.ShapeMismatch, match=r"\(4, 3\), got \(4, 5\); w \(2, 3\)"):
            nn.linear_forward(tape, layer, wide)
        with pytest.raises(error.DimensionError, match=r"x \(3,\) with w \(2, 3\)"):
            nn.linear_forward(tape, layer, flat)
        deep, tape = new_constant(tape, np.ones((4, 5, 3)))
        with pytest.raises(error.DimensionError, match=r"x \(4, 5, 3\) .*; reshape x to \[rows, features\] first"):
            nn.linear_forward(tape, layer, deep)
        with pytest.raises(error.DtypeError, match=r"float32 \(4, 3\) and float64 \(2, 3\)"):
            nn.linear_forward(tape, layer, single)
        with pytest.raises(error.ShapeMismatch, match=r"\(2,\), got \(3,\)"):
            nn.linear_forward(tape, nn.Linear(layer.w, flat), tape.nodes()[0].output)

    def test_no_features_are_refused(self, rng):
        for shape in ((2, 0), (0, 3)):
            x, layer, tape = layer_on_tape(rng, 4, shape[1], shape[0])
            with pytest.raises(error.InvalidShape, match="no features"):
                nn.linear_forward(tape, layer, x)

    def test_a_foreign_layer_is_refused(self, rng):
        x, layer, tape = layer_on_tape(rng)
        _, other, _ = layer_on_tape(rng)
        for fused in (True, False):
            with pytest.raises(error.ForeignVariable):
                nn.linear_forward(tape, other, x, fused=fused)
        with pytest.raises(error.ForeignVariable):
            nn.linear_forward(tape, layer, np.ones((4, 3)))

    def test_latency_and_nodes_are_recorded(self, rng):
        x, layer, tape = layer_on_tape(rng)
        telemetry.reset()
        nn.linear_forward(tape, layer, x)
        nn.linear_forward(tape, layer, x, fused=False)
        row = telemetry.snapshot()["linear_forward"]
        assert (row["count"], row["nodes"]) == (2, 4)
        assert 0 < row["total"] < 60


class TestMSELoss:
    def test_value_and_gradient(self, dtype, rng):
        check_gradient(nn.mse_loss, [rng.standard_normal((6, 2)), rng.standard_normal((6, 2))], rng, dtype)

    def test_nothing_is_broadcast(self):
        p, tape = new_variable(new_tape(), np.ones((4, 1)))
        y, tape = new_constant(tape, np.ones(4))
        with pytest.raises(error.ShapeMismatch, match=r"\(4, 1\), got \(4,\)"):
            nn.mse_loss(tape, p, y)


def test_both_modules_offer_the_layer_functions():
    for name in ("Linear", "linear", "linear_forward", "relu", "mse_loss"):
        assert getattr(nn, name) is getattr(nn.layers, name)


def test_a_1_4_1_network_fits_five_points_in_500_steps():
    x_data = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]], "f4")
    y_data = np.array([[2.1], [3.9], [6.2], [7.8], [10.3]], "f4")
    rng = np.random.default_rng(7)
    first, tape = nn.linear(new_tape(), 1, 4, rng=rng, init="he")
    second, tape = nn.linear(tape, 4, 1, rng=rng)
    params, sgd = (first, second), optim.SGD(lr=0.01)
    state, losses = optim.init(sgd, params), []
    for _ in range(500):
        x, tape = new_constant(tape, x_data)
        y, tape = new_constant(tape, y_data)
        pred, tape = autograd.sequence(
            nn.linear_forward(tape, params[0], x), nn.relu, lambda t, h, p=params: nn.linear_forward(t, p[1], h)
        )
        loss, tape = nn.mse_loss(tape, pred, y)
        losses.append(float(loss.data))
        (params, state), tape = optim.update(new_tape(), sgd, state, params, backward(tape, loss))
    # The least-squares line leaves 0.0246; a network stuck at the mean leaves 8.3.
    assert losses[0] > 1
    assert losses[-1] < 0.1


class TestMLP:
    def test_layers_and_output(self, rng):
        layers, tape = nn.mlp(
            new_tape(), (3, 5, 4, 2), rng=np.random.default_rng(0), activation="tanh", dtype="float64"
        )
        x, tape = new_constant(tape, rng.standard_normal((6, 3)))
        out, tape = nn.mlp_forward(tape, layers, x, activation="tanh")
        h = x.data
        for place, layer in enumerate(layers):
            h = (np.tanh(h) if place else h) @ layer.w.data.T + layer.b.data
        assert np.allclose(out.data, h, rtol=1e-13)

    def test_initial_weights_fit_the_activation(self):
        for activation, fan in (("relu", 2 / 400), ("tanh", 2 / 800)):
            layers, _ = nn.mlp(new_tape(), (400, 400, 400), rng=np.random.default_rng(0), activation=activation)
            assert layers[0].w.data.var() == pytest.approx(fan, rel=0.03)
            assert layers[1].w.data.var() == pytest.approx(2 / 800, rel=0.03)

    def test_bad_arguments_are_refused(self, rng):
        for sizes in ((3,), (), (3, 0, 2), (3, -1)):
            with pytest.raises(error.InvalidShape):
                nn.mlp(new_tape(), sizes, rng=rng)
        with pytest.raises(error.InvalidValue, match="choose one of relu"):
            nn.mlp(new_tape(), (3, 2), rng=rng, activation="swish")
        layers, tape = nn.mlp(new_tape(), (3, 2), rng=rng)
        x, tape = new_constant(tape, np.ones((1, 3), "f4"))
        with pytest.raises(error.InvalidValue, match="choose one of relu"):
            nn.mlp_forward(tape, layers, x, activation="swish")


class TestLayerNorm:
    def test_rows_have_the_mean_and_spread_of_the_layer(self, dtype, rng):
        layer, tape = nn.layer_norm(new_tape(), 40, dtype=dtype)
        x, tape = new_constant(tape, (rng.standard_normal((5, 40)) * 7 + 3).astype(dtype))
        out, tape = nn.layer_norm_forward(tape, layer, x)
        assert np.abs(out.data.mean(1)).max() < 100 * np.finfo(dtype).eps
        assert np.allclose(out.data.std(1), 1, rtol=1e-5)

    def test_bad_arguments_are_refused(self, rng):
        with pytest.raises(error.InvalidShape):
            nn.layer_norm(new_tape(), 0)
        with pytest.raises(error.DtypeError):
            nn.layer_norm(new_tape(), 3, dtype="int32")
        layer, tape = nn.layer_norm(new_tape(), 3)
        x, tape = new_constant(tape, np.ones((2, 4), "f4"))
        with pytest.raises(error.ShapeMismatch, match="one element for each feature"):
            nn.layer_norm_forward(tape, layer, x)
        y, tape = new_constant(tape, np.ones((2, 3), "f4"))
        with pytest.raises(error.InvalidValue, match="epsilon"):
            nn.layer_norm_forward(tape, layer, y, epsilon=-1)


@pytest.mark.parametrize("features", [2.5, True, "x", None])
def test_features_are_whole_numbers(features):
    rng, tape = np.random.default_rng(0), autograd.new_tape()
    for refused in (
        lambda: nn.linear(tape, features, 2, rng=rng),
        lambda: nn.mlp(tape, (2, features), rng=rng),
        lambda: nn.layer_norm(tape, features),
    ):
        with pytest.raises(InvalidShape):
            refused()


@pytest.mark.parametrize("dtype", [None, "x", 1.5])
def test_a_dtype_that_is_none_is_refused(dtype):
    with pytest.raises(DtypeError, match="layer_norm"):
        nn.layer_norm(autograd.new_tape(), 2, dtype=dtype)


@pytest.mark.parametrize("shape", [(), (4, 3)])
def test_what_has_no_two_halves_is_refused(shape):
    x, tape = autograd.new_variable(autograd.new_tape(), np.ones(shape))
    with pytest.raises(error.InvalidShape, match=r"glu: x of shape .*; give an even number of features"):
        nn.glu(tape, x)
