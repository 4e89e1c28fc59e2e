"""Each pass alone, on instructions written by hand."""

import numpy as np

from viva_tensor.program import passes
from viva_tensor.program.builder import Builder
from viva_tensor.program.instructions import Buffer, Symbol, Update, row_major


def leaf(kind, shape, name):
    return Symbol(shape, row_major(shape), Buffer(kind, int(np.prod(shape)), 0, name=name))


def layer(build, rows=8, fan_in=5, fan_out=3):
    """x · w + b, and its operands."""
    x = leaf("input", (rows, fan_in), "x")
    w = leaf("parameter", (fan_in, fan_out), "w")
    return build.matmul(x, w, leaf("parameter", (fan_out,), "b")), x, w


def kinds(instructions):
    return [one.label for one in instructions]


def test_dead_instructions_go_and_what_the_output_needs_stays():
    build = Builder()
    y, x, _ = layer(build)
    build.elementwise("mul", x, x)
    out = build.sum(y, (0, 1))
    assert kinds(passes.dead(build.instructions, out)) == ["matmul", "sum"]


def test_relu_joins_the_product_and_its_mask_reads_the_result():
    build = Builder()
    y, _, _ = layer(build)
    h = build.elementwise("relu", y)
    grad = build.elementwise("relu_backward", leaf("input", h.shape, "g"), y)
    product, mask = passes.relu_in_product(build.instructions, grad)
    assert product.fused == ("bias", "relu")
    assert product.results["out"].buffer is h.buffer
    assert mask.operands["b"].buffer is h.buffer


def test_relu_stays_apart_where_something_else_reads_the_sum():
    build = Builder()
    y, _, _ = layer(build)
    h = build.elementwise("relu", y)
    out = build.elementwise("add", h, y)
    assert kinds(passes.relu_in_product(build.instructions, out)) == ["matmul", "relu", "add"]


def test_a_mask_joins_the_product_that_alone_it_reads():
    for again in (False, True):
        build = Builder()
        grad = build.matmul(leaf("input", (8, 3), "g"), leaf("parameter", (3, 5), "w"))
        out = build.elementwise("relu_backward", grad, leaf("input", (8, 5), "h"))
        if again:
            out = build.elementwise("add", out, grad)
        after = passes.mask_in_product(build.instructions, out)
        assert kinds(after) == (["matmul", "relu_backward", "add"] if again else ["matmul"])
    assert after[0].fused == ()


def test_the_loss_and_its_gradient_become_one_pass():
    build = Builder()
    pred, target = leaf("input", (8, 3), "p"), leaf("input", (8, 3), "t")
    loss = build.squared_error(pred, target)
    one = Symbol((), (), Buffer("constant", 1, array=np.ones((), "f4")))
    grad = build.squared_error_backward(one, pred, target)
    (both,) = passes.loss_with_gradient(build.instructions, loss)
    assert both.results == {"loss": loss, "out": grad}


def test_an_update_joins_its_product_after_the_last_reader_of_the_weights():
    build = Builder()
    w = leaf("parameter", (8, 8), "w")
    dy, x = leaf("input", (4, 8), "dy"), leaf("input", (4, 8), "x")
    grad = build.matmul(build.transpose(dy, None), x)
    dx = build.matmul(dy, w)
    build.instructions.append(Update(operands={"grad": grad, "w": w}, results={"w": w}))
    after = passes.update_in_product(build.instructions, dx)
    assert kinds(after) == ["matmul", "matmul"]
    assert after[0].results["out"] is dx
    assert after[1].fused == ("update",)
    assert after[1].results["w"] is w


def test_of_two_parameters_that_are_multiplied_only_one_joins():
    build = Builder()
    u, v = leaf("parameter", (8, 8), "u"), leaf("parameter", (8, 8), "v")
    grad = leaf("input", (8, 8), "g")
    grads = build.matmul(grad, build.transpose(v, None)), build.matmul(build.transpose(u, None), grad)
    for one, w in zip(grads, (u, v), strict=True):
        build.instructions.append(Update(operands={"grad": one, "w": w}, results={"w": w}))
    after = passes.update_in_product(build.instructions, u)
    assert kinds(after) == ["matmul", "matmul", "update"]
    reads, updates = after[0], after[1]
    assert reads.operands["a"].buffer is u.buffer
    assert updates.results["w"] is u
