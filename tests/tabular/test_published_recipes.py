"""RealMLP and TabM against the packages of their authors: same weights, same rows, the same numbers."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.layer_steps import leaves

from viva_tensor import autograd, optim
from viva_tensor.tabular.recipes import RealMLP, TabM
from viva_tensor.tabular.recipes.preprocessing import Categories, QuantileNormal, RobustScaling, one_hot
from viva_tensor.tabular.recipes.realmlp import cycles, flat_then_falling
from viva_tensor.tabular.recipes.rows import Rows
from viva_tensor.tabular.recipes.training import compiled_step

NO_PYTABKIT = "pytabkit, the package of RealMLP's authors, is not installed"
NO_TABM = "tabm, the package of TabM's authors, is not installed"
NO_RTDL = "rtdl_num_embeddings, a package of TabM's authors, is not installed"
ROWS, SIZES, STEPS = 60, (2, 5, 12), 10
EPSILON = 1e-30  # of Adam: RealMLP's weights are kept divided by √in, so that ε, and it alone, is not theirs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def rows(rng):
    """Numbers, one of them with far values, one constant and one rare; categories of two, few and many values."""
    x = rng.standard_normal((ROWS, 5)).astype("f4")
    x[:3, 1] = (1e3, -1e5, 1e9)
    x[:, 2] = 7
    x[:, 3] = np.arange(ROWS) < 4
    codes = np.stack([np.arange(ROWS) % size for size in SIZES], axis=1)
    return Rows(x, rng.permuted(codes, axis=0))


def tabular_data():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("pytabkit", reason=NO_PYTABKIT)
    from pytabkit.models.data import data

    return data


def data_set(rows, y, classes):
    """The rows as pytabkit holds them, where 0 is the code of what is missing."""
    import torch

    data = tabular_data()
    arrays = {"x_cont": rows.x, "x_cat": rows.codes + 1}
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    tensors["y"] = torch.tensor(y[:, None].astype("i8" if classes else "f4"))
    infos = {
        "x_cont": data.TensorInfo(feat_shape=[rows.x.shape[1]]),
        "x_cat": data.TensorInfo(cat_sizes=[size + 1 for size in SIZES]),
        "y": data.TensorInfo(cat_sizes=[classes]) if classes else data.TensorInfo(feat_shape=[1]),
    }
    return data.DictDataset(tensors, infos)


def test_numbers_are_scaled_and_clipped_as_theirs(rows):
    tabular_data()
    from pytabkit.models.nn_models.models import PreprocessingFactory

    only = data_set(rows, np.zeros(ROWS), 0)
    del only.tensors["x_cat"], only.tensor_infos["x_cat"]
    tfms = PreprocessingFactory(tfms=["median_center", "robust_scale", "smooth_clip"])
    _, made = tfms.create(only.tensor_infos).fit_transform(only)
    assert np.allclose(RobustScaling.of(rows.x)(rows.x), made.tensors["x_cont"].numpy(), rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("missing", [False, True])
def test_categories_become_columns_as_theirs(rows, missing):
    tabular_data()
    from pytabkit.models.nn_models.categorical import EncodingFactory, SingleOneHotFactory

    given = data_set(rows, np.zeros(ROWS), 0)
    codes = rows.codes.copy()
    if missing:
        given.tensors["x_cat"][:5] = 0
        codes[:5] = -1
    encoding = EncodingFactory(SingleOneHotFactory(max_one_hot_cat_size=9), enc_output_name="x_one_hot")
    _, made = encoding.create(given.tensor_infos).fit_transform(given)
    few = [size <= RealMLP().most_one_hot for size in SIZES]
    indices = Categories.of(rows.codes).indices(codes)[:, few]
    ours = one_hot(indices, np.array(SIZES)[few], signed=True)
    assert np.array_equal(ours, made.tensors["x_one_hot"].numpy())


def test_schedules_are_theirs():
    tabular_data()
    from pytabkit.models.training.scheduling import get_schedule

    for name, ours in (("coslog4", cycles), ("flat_cos", flat_then_falling)):
        schedule = get_schedule(name)
        for share in np.linspace(0, 0.999, 200):
            schedule.update(SimpleNamespace(progress=SimpleNamespace(get_fit_progress=lambda share=share: share)))
            assert math.isclose(schedule.get_value(), ours(share), rel_tol=1e-9, abs_tol=1e-9)


def test_constants_are_theirs():
    tabular_data()
    from pytabkit.models.sklearn.default_params import DefaultParams

    ours = RealMLP()
    names = {
        "hidden": "hidden_sizes",
        "epochs": "n_epochs",
        "weight_decay": "wd",
        "dropout": "p_drop",
        "frequencies": "plr_hidden_1",
        "embedding": "plr_hidden_2",
        "sigma": "plr_sigma",
        "category_embedding": "embedding_size",
    }
    network = {None: 0.2, 3: 0.04}
    for theirs, classes in ((DefaultParams.RealMLP_TD_REG, None), (DefaultParams.RealMLP_TD_CLASS, 3)):
        for mine, other in names.items():
            value = getattr(ours, mine)
            assert theirs[other] == (list(value) if isinstance(value, tuple) else value)
        made = ours.network(Rows(np.eye(4, dtype="f4"), np.zeros((4, 0), np.int64)), classes, np.random.default_rng(0))
        assert theirs["lr"] == network[classes] == ours.course(made, 4).optimizer.lr
        assert theirs["sq_mom"] == ours.betas[1]
        assert theirs["max_one_hot_cat_size"] == ours.most_one_hot + 1  # with what is missing
    assert DefaultParams.RealMLP_TD_CLASS["ls_eps"] == ours.label_smoothing


def their_realmlp(rows, y, classes):
    """Their network, initialised on these rows, without dropout; and the manager of its schedules."""
    tabular_data()
    import torch
    from pytabkit.models.nn_models.base import set_hp_context
    from pytabkit.models.nn_models.models import NNFactory
    from pytabkit.models.sklearn.default_params import DefaultParams
    from pytabkit.models.training.coord import HyperparamManager

    defaults = DefaultParams.RealMLP_TD_CLASS if classes else DefaultParams.RealMLP_TD_REG
    config = {**defaults, "p_drop": 0.0, "opt_eps": EPSILON}
    manager, given = HyperparamManager(**config), data_set(rows, y, classes)
    manager.get_more_info_dict()["trainval_ds"] = given
    with set_hp_context(manager), torch.no_grad():
        model, _ = NNFactory(**config).create(given.tensor_infos).fit_transform(given)
    return model.stack([model]).double(), manager, given


def in_our_order(model, network):
    """Their parameters by their names, and what brings ours to their shape."""
    named = {}
    for parameter in model.parameters():
        scope = str(parameter.context.scope).strip("/").split("/")
        named["/".join(scope[-2:])] = parameter
    numbers, width = network._width(0), network.recipe.embedding
    whole = numbers * width
    own = np.arange(whole).reshape(numbers, width)
    order = np.concatenate([own[:, :-1].ravel(), own[:, -1], np.arange(whole, network._features)])

    def plain(array, gradient=False):
        return array

    def weight(array, gradient=False):
        factor = math.sqrt(array.shape[1])  # ours are W / √in
        return array.T / factor if gradient else array.T * factor

    def first(array, gradient=False):
        return (weight(array, gradient) if array.ndim == 2 else array)[order]

    pairs = [(named[f"plr/{name}"], plain) for name in ("weight_1", "bias_1", "weight_2", "bias_2")]
    pairs += [(named["tfms/emb"], plain), (named["layer-0/scale"], first)]
    for i, change in enumerate((first, weight, weight)):
        pairs += [(named[f"layer-{i}/weight"], change)]
        pairs += [(named[f"layer-{i}/{name}"], plain) for name in ("bias", "act")]
    return [*pairs, (named["layer-3/weight"], weight), (named["layer-3/bias"], plain)]


def moved(layers, rng):
    """Layers with every weight a little elsewhere, so that none is at the value it begins with."""
    tape = autograd.new_tape()

    def new(variable):
        nonlocal tape
        made, tape = autograd.new_variable(tape, variable.data * rng.uniform(0.8, 1.25, variable.data.shape))
        return made

    return optim.replaced(layers, new)


def on_a_tape(layers, arrays):
    """The same layers, and arrays, on a new tape."""
    tape, recorded, weights = autograd.new_tape(), [], {}
    for variable in optim.leaves(layers):
        weights[variable], tape = autograd.new_variable(tape, variable.data)
    for array in arrays:
        variable, tape = autograd.new_constant(tape, array)
        recorded.append(variable)
    return optim.replaced(layers, weights.__getitem__), recorded, tape


@pytest.mark.parametrize("classes", [None, 2, 3])
def test_realmlp_computes_and_learns_as_theirs(rows, classes, rng):
    y = rng.integers(0, classes, ROWS).astype(float) if classes else rng.standard_normal(ROWS) * 3 + 5
    model, manager, given = their_realmlp(rows, y, classes or 0)
    import torch
    from pytabkit.models.optim.optimizers import get_opt_class
    from pytabkit.models.training.metrics import cross_entropy, mse

    recipe = RealMLP(dropout=0.0, epochs=STEPS)
    network = recipe.network(rows, classes, rng)
    inputs = network.inputs(Rows(rows.x.astype("f8"), rows.codes))
    layers = moved(network.new(inputs, rng).value, rng)
    pairs = in_our_order(model, network)
    with torch.no_grad():
        for (parameter, change), array in zip(pairs, leaves(layers), strict=True):
            parameter.copy_(torch.tensor(change(array)).reshape(parameter.shape))
    batch = {
        name: tensor[None].double() if tensor.is_floating_point() else tensor[None]
        for name, tensor in given.tensors.items()
    }
    target = y if classes else ((y - y.astype("f4").mean()) / y.astype("f4").std())[:, None]

    def their_loss():
        made = model.forward_tensors(dict(batch))
        return made["x_cont"], (cross_entropy if classes else mse)(made["x_cont"], made["y"]).sum()

    layers, recorded, tape = on_a_tape(layers, (*inputs, target))
    outputs, tape = network.forward(tape, layers, recorded[:-1], rng)
    loss, tape = network.loss(tape, outputs, recorded[-1])
    model.train()
    theirs, their_value = their_loss()
    assert np.allclose(outputs.data, theirs[0].detach().numpy(), rtol=1e-6, atol=1e-6)
    assert math.isclose(float(loss.data), their_value.item(), rel_tol=1e-6)
    their_value.backward()
    grads = autograd.backward(tape, loss)
    for variable, (parameter, change) in zip(optim.leaves(layers), pairs, strict=True):
        ours = change(grads[variable], gradient=True)
        assert np.allclose(ours.ravel(), parameter.grad.numpy().ravel(), rtol=1e-5, atol=1e-7)

    adam = get_opt_class("adam")([{"params": [parameter], "lr": 0.01} for parameter in model.parameters()], manager)
    progress = SimpleNamespace()
    course = recipe.course(network, ROWS)
    course = replace(course, optimizer=replace(course.optimizer, eps=EPSILON))
    step = compiled_step(network, layers, course, (*inputs, target), rng)
    for number in range(STEPS):
        progress.get_fit_progress = lambda number=number: number / STEPS
        manager.update_hypers(SimpleNamespace(progress=progress))
        adam.zero_grad()
        _, value = their_loss()
        value.backward()
        adam.step(loss=value)
        (ours,) = step.run(*inputs, target, batch_size=ROWS, shuffle=False, schedule=course.schedule)
        assert math.isclose(ours, value.item(), rel_tol=2e-6)
    trained = leaves(step.params(autograd.new_tape()).value)
    for before, after, (parameter, change) in zip(leaves(layers), trained, pairs, strict=True):
        assert not np.array_equal(before, after)
        assert np.allclose(change(after).ravel(), parameter.detach().numpy().ravel(), rtol=1e-4, atol=1e-5)


def test_first_units_vary_as_theirs(rows, rng):
    """Before dropout each unit of theirs and of ours has variance 1 over the rows, and its bend lies among them."""
    model, _, given = their_realmlp(rows, rng.standard_normal(ROWS), 0)
    network = RealMLP(dropout=0.0).network(rows, None, rng)
    layers = network.new(inputs := network.inputs(rows), rng).value
    named = {"/".join(str(one.context.scope).split("/")[-2:]): one for one in model.parameters()}
    layers, recorded, tape = on_a_tape(layers, inputs)
    values, _ = network._joined(tape, layers, recorded)
    units = values.data @ layers.hidden[0].linear.w.data.T
    assert np.allclose(units.std(axis=0), 1, atol=1e-4)
    bends = -layers.hidden[0].linear.b.data
    assert ((units.min(axis=0) < bends) & (bends < units.max(axis=0))).all()
    theirs = named["layer-1/bias"].detach().numpy().ravel()
    ours = layers.hidden[1].linear.b.data
    assert 0.5 < ours.std() / theirs.std() < 2
    assert abs(ours.mean() - theirs.mean()) < 0.3
    assert given.n_samples == ROWS


def test_quantiles_are_those_of_scikit_learn(rows):
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is not installed")
    ours = QuantileNormal.of(rows.x, np.random.default_rng(3))
    noisy = rows.x + np.random.default_rng(3).normal(0, 1e-5, rows.x.shape)
    theirs = preprocessing.QuantileTransformer(n_quantiles=10, output_distribution="normal", subsample=10**9).fit(noisy)
    new = np.concatenate([rows.x, rows.x * 2, rows.x - 1])
    assert np.allclose(ours(new), theirs.transform(new.astype("f8")), rtol=1e-5, atol=1e-5)


def their_tabm(network, classes, **given):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tabm = pytest.importorskip("tabm", reason=NO_TABM)
    rtdl = pytest.importorskip("rtdl_num_embeddings", reason=NO_RTDL)
    edges = [torch.tensor(own) for own in network.edges]
    bins = (
        rtdl.PiecewiseLinearEmbeddings(edges, network.recipe.embedding, activation=False, version="B")
        if edges
        else None
    )
    model = tabm.TabM.make(
        n_num_features=len(network.varied),
        cat_cardinalities=list(SIZES),
        d_out=classes or 1,
        num_embeddings=bins,
        arch_type="tabm-mini" if network.recipe.mini else "tabm",
        **given,
    )
    own = [] if bins is None else [bins.linear.weight, bins.linear0.weight, bins.linear0.bias]
    linears = [block[0] for block in model.backbone.blocks]
    if network.recipe.mini:
        own += [model.backbone.affine.weight, *(one for linear in linears for one in (linear.weight, linear.bias))]
    else:
        own += [one for linear in linears for one in (linear.weight, linear.r, linear.s, linear.bias)]
    return torch, model, [*own, model.output.weight, model.output.bias]


@pytest.mark.parametrize("mini", [False, True])
@pytest.mark.parametrize("bins", [48, 0])
def test_tabm_has_the_shapes_of_theirs(rows, bins, mini, rng):
    network = TabM(bins=bins, mini=mini).network(rows, None, rng)
    _, model, theirs = their_tabm(network, None)
    layers = network.new(network.inputs(rows), rng).value
    assert [array.shape for array in leaves(layers)] == [tuple(parameter.shape) for parameter in theirs]
    scales = layers.hidden.r.data if mini else layers.hidden[0].r.data
    other = (model.backbone.affine.weight if mini else model.backbone.blocks[0][0].r).detach().numpy()
    assert set(np.unique(abs(other))) == {1.0} if not bins else abs(other.std() - scales.std()) < 0.3
    assert set(np.unique(abs(scales))) == {1.0} if not bins else True
    dropouts = [module.p for module in model.modules() if type(module).__name__ == "Dropout"]
    assert dropouts == [network.recipe.dropout] * network.recipe.depth


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("mini", [False, True])
@pytest.mark.parametrize("bins", [6, 0])
def test_tabm_computes_and_learns_as_theirs(rows, bins, mini, classes, rng):
    recipe = TabM(members=4, width=16, bins=bins, embedding=5, mini=mini, dropout=0.0)
    network = recipe.network(rows, classes, rng)
    given = {"k": 4, "d_block": 16, "dropout": 0.0}
    torch, model, parameters = their_tabm(network, classes, **given)
    model = model.double()
    inputs = [array.astype("f8") for array in network.inputs(rows)]
    layers = moved(network.new(inputs, rng).value, rng)
    arrays = leaves(layers)
    if bins:  # theirs has the last bin of each number at the end
        arrays[0] = rng.standard_normal(arrays[0].shape)
        w = np.zeros(arrays[0].shape)
        for j, own in enumerate(network.edges):
            w[j, : len(own) - 2], w[j, -1] = arrays[0][j, : len(own) - 2], arrays[0][j, len(own) - 2]
        layers = with_first(layers, arrays[0])
        arrays = [w, *arrays[1:]]
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.tensor(array))
    numbers = torch.tensor(inputs[2] if bins else inputs[0])
    codes = torch.tensor(network.categories.indices(rows.codes) - 1)
    y = rng.integers(0, classes, ROWS).astype("f8") if classes else rng.standard_normal((ROWS, 1))
    target = torch.tensor(y).repeat_interleave(4, 0)

    def their_loss():
        outputs = model(numbers, codes)
        if classes:
            return outputs, torch.nn.functional.cross_entropy(outputs.flatten(0, 1), target.long())
        return outputs, torch.nn.functional.mse_loss(outputs.flatten(0, 1), target)

    layers, recorded, tape = on_a_tape(layers, inputs)
    outputs, tape = network.forward(tape, layers, recorded)
    theirs, _ = their_loss()
    assert np.allclose(outputs.data, theirs.detach().numpy(), rtol=1e-6, atol=1e-6)
    mean, _ = network.prediction(tape, outputs)
    expected = theirs.softmax(-1).mean(1) if classes else theirs.mean(1)
    assert np.allclose(mean.data, expected.detach().numpy(), rtol=1e-6, atol=1e-6)

    adam = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)
    step = compiled_step(network, layers, recipe.course(network, ROWS), (*inputs, y), rng)
    for _ in range(STEPS):
        adam.zero_grad()
        _, value = their_loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        assert math.isclose(step(*inputs, y), value.item(), rel_tol=1e-6)
    trained = leaves(step.params(autograd.new_tape()).value)
    for after, parameter in zip(trained[bool(bins) :], parameters[bool(bins) :], strict=True):
        assert np.allclose(after, parameter.detach().numpy(), rtol=1e-5, atol=1e-7)


def with_first(layers, array):
    """Layers with another first array."""
    first = optim.leaves(layers)[0]
    made = autograd.new_variable(autograd.new_tape(), array).value
    return optim.replaced(layers, lambda variable: made if variable is first else variable)
