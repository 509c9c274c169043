"""PixelRNN: what its paper says, beyond the contract of every model."""

import itertools

import pytest
import torch

from ancestral.causal.recurrent import DiagonalRecurrence, RowRecurrence, lstm
from ancestral.likelihoods import Bernoulli, Categorical
from ancestral.models import DiagonalBiLSTM, MultiScalePixelRNN, RowLSTM
from ancestral.testing import changed_by, order_of, random_x, randomized
from ancestral.walk import Observe, drive

BOTH = [RowLSTM, DiagonalBiLSTM]


def drawn(layer):
    """The layer in float64 with every parameter drawn at random."""
    for p in layer.double().parameters():
        torch.nn.init.normal_(p, std=0.4)
    return layer


def depends(layer, x, place):
    """Which places (row, col) of x (1, C, H, W) the output of a layer at a place depends on, by its gradient."""
    x = x.clone().requires_grad_()
    layer(x)[0, :, place[0], place[1]].square().sum().backward()
    return (x.grad[0] != 0).any(0)


# --- the recurrences, one layer by itself


def test_the_gates():
    """Four numbers of the equations, by hand: o, f, i are logistic, g is a tanh, in this order."""
    z, c = torch.tensor([[0.3, -0.2, 0.7, 1.1]]), torch.tensor([[0.5]])
    o, f, i = z[0, :3].sigmoid()
    cell = f * 0.5 + i * z[0, 3].tanh()
    got_h, got_c = lstm(z, c, 1)
    torch.testing.assert_close(got_c.squeeze(), cell)
    torch.testing.assert_close(got_h.squeeze(), o * cell.tanh())


def test_the_gates_of_a_group_are_its_own():
    z, c = torch.randn(2, 5, 3 * 4 * 2), torch.randn(2, 5, 3 * 2)
    h, cell = lstm(z, c, 2)
    for g in range(3):
        own = lstm(z[..., 8 * g : 8 * g + 8], c[..., 2 * g : 2 * g + 2], 2)
        assert torch.equal(h[..., 2 * g : 2 * g + 2], own[0])
        assert torch.equal(cell[..., 2 * g : 2 * g + 2], own[1])


def naive_row_lstm(layer, x):
    """The Row LSTM pixel by pixel, as section 3.1 says: (C, H, W) to (h, H, W)."""
    _, height, width = x.shape
    taps, zero = layer.input.taps, torch.zeros(layer.channels, dtype=x.dtype)
    h = {(-1, col): layer.h0 for col in range(width)}
    c = {(-1, col): layer.c0 for col in range(width)}
    for i, j in itertools.product(range(height), range(width)):
        given = [x[:, i, k] if k >= 0 else torch.zeros_like(x[:, 0, 0]) for k in range(j - taps + 1, j + 1)]
        above = [h.get((i - 1, k), zero) for k in (j - 1, j, j + 1)]
        z = torch.cat(given) @ layer.input.weight + layer.input.bias + torch.cat(above) @ layer.state
        h[i, j], c[i, j] = lstm(z, c[i - 1, j], layer.channels)
    return torch.stack([torch.stack([h[i, j] for j in range(width)], -1) for i in range(height)], -2)


def naive_direction(direction, x):
    """One direction of a Diagonal BiLSTM pixel by pixel, from the left to the right: (C, H, W) to (h, H, W)."""
    _, height, width = x.shape
    zero = torch.zeros_like(direction.h0)
    h = {(row, -1): direction.h0 for row in range(height)} | {(-1, col): zero for col in range(width)}
    c = {(row, -1): direction.c0 for row in range(height)}
    for i, j in itertools.product(range(height), range(width)):
        known = torch.cat([h[i, j - 1], x[:, i, j]])
        z = known @ direction.row + direction.bias + h[i - 1, j] @ direction.above
        h[i, j], c[i, j] = lstm(z, c[i, j - 1], len(zero))
    return torch.stack([torch.stack([h[i, j] for j in range(width)], -1) for i in range(height)], -2)


SIZES = [(4, 5), (6, 3), (1, 4), (5, 1), (1, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_row_lstm_is_what_the_equations_say(size):
    layer, x = drawn(RowRecurrence(4, 3)), torch.randn(2, 4, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([naive_row_lstm(layer, one) for one in x])
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_diagonal_lstm_is_what_the_equations_say(size):
    """Both directions; the second one mirrored, its states one row further down, and added."""
    layer, x = drawn(DiagonalRecurrence(4, 3)), torch.randn(2, 4, *size, dtype=torch.float64)
    with torch.no_grad():
        rightwards = torch.stack([naive_direction(layer.rightwards, one) for one in x])
        mirrored = torch.stack([naive_direction(layer.leftwards, one.flip(-1)).flip(-1) for one in x])
        shifted = torch.cat([torch.zeros_like(mirrored[:, :, :1]), mirrored[:, :, :-1]], 2)
        torch.testing.assert_close(layer(x), rightwards + shifted)


def test_a_row_lstm_layer_sees_a_triangle():
    layer, x = drawn(RowRecurrence(4, 3)), torch.randn(1, 4, 5, 9, dtype=torch.float64)
    seen = depends(layer, x, (3, 5))
    triangle = torch.zeros(5, 9, dtype=torch.bool)
    for up in range(4):
        triangle[3 - up, 5 - up - 1 : 5 + up + 1] = True  # the input is read one pixel further to the left
    assert torch.equal(seen, triangle)


@pytest.mark.parametrize("place", [(0, 3), (2, 0), (2, 3), (3, 6)], ids=str)
def test_one_diagonal_layer_sees_all_the_past_and_nothing_on_its_right(place):
    layer, x = drawn(DiagonalRecurrence(4, 3)), torch.randn(1, 4, 4, 7, dtype=torch.float64)
    past = torch.zeros(4, 7, dtype=torch.bool)
    past[: place[0]] = True
    past[place[0], : place[1] + 1] = True
    assert torch.equal(depends(layer, x, place), past)


def test_the_second_direction_alone_sees_rows_above_and_columns_on_the_right():
    layer, x = drawn(DiagonalRecurrence(4, 3)), torch.randn(1, 4, 4, 7, dtype=torch.float64)
    x.requires_grad_()
    layer.whole(x, None)[1][0, :, 1, 3].square().sum().backward()
    seen = torch.zeros(4, 7, dtype=torch.bool)
    seen[:2, 3:] = True
    assert torch.equal((x.grad[0] != 0).any(0), seen)


@pytest.mark.parametrize("kind", [RowRecurrence, DiagonalRecurrence])
def test_the_first_states_are_learned(kind):
    layer, x = drawn(kind(4, 3)), torch.randn(2, 4, 3, 4, dtype=torch.float64)
    before = layer(x)
    initial = {name: p for name, p in layer.named_parameters() if name.endswith(("h0", "c0"))}
    assert len(initial) == (2 if kind is RowRecurrence else 4)
    for name, p in initial.items():
        with torch.no_grad():
            p += 0.5
        after = layer(x)
        first_row = (after != before)[:, :, 0].any()
        assert first_row or name.startswith("leftwards"), name  # those are shifted down
        assert (after != before)[:, :, 1].any(), name
        before = after


# --- the networks


def seen_by(model, places, draws=4):
    """What the given places see, (place, *shape), for some random parameters and data."""
    order = order_of(model)
    seen = torch.zeros(len(order), len(order), dtype=torch.bool)
    for _ in range(draws):
        randomized(model)
        seen |= changed_by(model, random_x(model, 1), None, order)
    seen.fill_diagonal_(False)
    fields = torch.zeros(len(places), *model.shape, dtype=torch.bool)
    for field, at in zip(fields, places, strict=True):
        for place, sees in zip(order, seen[:, order.index(at)], strict=True):
            field[place] = sees
    return fields


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_row_lstm_sees_its_triangle_and_no_more(layers, kernel_size):
    model = RowLSTM(shape=(1, 5, 19), channels=6, layers=layers, kernel_size=kernel_size).double()
    places = [(0, 4, 9), (0, 4, 0), (0, 2, 18)]
    for at, field in zip(places, seen_by(model, places), strict=True):
        assert torch.equal(field, model.receptive_field(at)), at


def test_the_row_lstm_sees_fifteen_columns_on_its_left():
    """A 7x7 first layer and 12 layers: 3 + 12 columns in its own row, one more on either side for each row above."""
    field = RowLSTM(shape=(1, 30, 61), channels=2).receptive_field((0, 29, 30))[0]
    assert field[29].nonzero().flatten().tolist() == list(range(15, 30))
    for up in range(1, 12):
        cols = field[29 - up].nonzero().flatten()
        assert (30 - cols.min(), cols.max() - 30) == (15 + up, 2 + up)


def test_the_diagonal_bilstm_sees_all_the_past_with_one_layer():
    """All but the end of the row above, which no feature that reaches the pixel has seen."""
    model = DiagonalBiLSTM(shape=(1, 3, 9), channels=6, layers=1).double()
    places = order_of(model)
    for at, field in zip(places, seen_by(model, places, draws=6), strict=True):
        _, row, col = at
        past = torch.zeros(1, 3, 9, dtype=torch.bool)
        past[0, :row] = True
        past[0, row, :col] = True
        if row > 0 and col < 5:
            past[0, row - 1, 8] = False
        assert torch.equal(field, past), at
        assert torch.equal(model.receptive_field(at), past), at


@pytest.mark.parametrize("kind", BOTH)
def test_no_pixel_sees_what_is_on_its_right_in_its_own_row(kind):
    model = randomized(kind(shape=(3, 3, 6), likelihood=Categorical(4), channels=6, layers=3).double())
    x = random_x(model, 1)
    with torch.no_grad():
        before = model.log_probs(x)
        for col in range(6):
            other = x.clone()
            other[:, :, 1, col] = (x[:, :, 1, col] + 1) % 4
            after = model.log_probs(other)
            assert torch.equal(after[:, :, 1, :col], before[:, :, 1, :col])
            assert not torch.equal(after[:, :, 1, col:], before[:, :, 1, col:])


@pytest.mark.parametrize("kind", BOTH)
def test_blue_sees_green_and_red_of_its_pixel(kind):
    model = kind(shape=(3, 1, 2), likelihood=Categorical(4), channels=6, layers=1).double()
    places = order_of(model)
    fields = seen_by(model, places)
    for i, (at, field) in enumerate(zip(places, fields, strict=True)):
        assert {places.index(tuple(p)) for p in field.nonzero().tolist()} == set(range(i)), at


def test_parameters_of_a_row_lstm():
    """Binarized MNIST with h = 16, counted layer by layer (mask A: 24 taps of the image and of the ones)."""
    h, layers, last = 16, 7, 32
    model = RowLSTM(shape=(1, 28, 28), channels=h, layers=layers, final_channels=last)
    first = (3 * 7 + 3) * 2 * 2 * h + 2 * h
    inputs = 2 * (2 * h) * (4 * h) + 4 * h  # of the three taps, mask B leaves the left one and its own
    layer = inputs + 3 * h * (4 * h) + 2 * h + h * 2 * h  # three taps of the state, h0 and c0, 1x1 up
    skip = layers * h * 2 * h
    end = (2 * h * last + last) + (last * last + last) + (last + 1)
    assert sum(p.numel() for p in model.parameters()) == first + layers * layer + skip + end == 61_729


def test_parameters_of_a_diagonal_bilstm():
    """The network of binarized MNIST in the paper: 7 layers, h = 16, 32 features at the end."""
    h, layers, last = 16, 7, 32
    model = DiagonalBiLSTM(shape=(1, 28, 28), channels=h, layers=layers, final_channels=last)
    first = (3 * 7 + 3) * 2 * 2 * h + 2 * h
    direction = 2 * h * (4 * h) + 4 * h + 2 * h * (4 * h) + 2 * h  # 1x1 of the input, 2x1 of the state, h0 and c0
    skip = layers * h * 2 * h
    end = (2 * h * last + last) + (last * last + last) + (last + 1)
    expected = first + layers * (2 * direction + h * 2 * h) + skip + end
    assert sum(p.numel() for p in model.parameters()) == expected == 69_569


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 12)])
@pytest.mark.parametrize("kind", BOTH)
def test_activations_at_initialisation_are_of_order_one(kind, shape):
    model = kind(shape=shape, likelihood=Categorical(256), channels=24, layers=12)
    scales = []
    for block in model.network.blocks:
        block.register_forward_hook(lambda _m, _i, out: scales.append(out[0].std().item()))
    params = model(torch.randint(256, (4, *shape)))
    assert len(scales) == 12
    assert all(0.05 < s < 5 for s in scales)
    assert 0.01 < params.std() < 5


@pytest.mark.parametrize("kind", [*BOTH, MultiScalePixelRNN])
def test_gradients_in_bfloat16_are_those_in_float32(kind):
    torch.manual_seed(0)
    model = kind(shape=(3, 8, 8), likelihood=Categorical(16), channels=12, layers=12)
    x, gradients = torch.randint(16, (4, 3, 8, 8)), []
    for half in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = -model.log_prob(x).mean()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert all(g.isfinite().all() for g in gradients)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("kind", BOTH)
def test_without_residual_connections(kind):
    """What came in is not added: a block whose recurrent layer is silent puts out nothing."""
    for residual in (True, False):
        model = kind(shape=(1, 4, 5), channels=4, layers=2, residual=residual)
        block = model.network.blocks[0]
        torch.nn.init.zeros_(block.up.weight)
        x = torch.randn(1, 8, 4, 5)
        assert torch.equal(block(x, None, None)[0], x if residual else torch.zeros_like(x))
        data = model.sample(2)
        source = Observe(data)
        drive(model.walk(2), source)
        torch.testing.assert_close(source.log_prob(), model.log_prob(data).detach())


@pytest.mark.parametrize("kind", BOTH)
def test_every_layer_has_a_skip_connection(kind):
    model = kind(shape=(1, 4, 5), channels=4, layers=3)
    with torch.no_grad():
        for block in model.network.blocks:
            block.up.weight.zero_()  # nothing else leads from the layers to the output
    model.log_prob(model.sample(2)).sum().backward()
    for block in model.network.blocks:
        assert all((p.grad != 0).any() for p in block.recurrence.parameters())


# --- two scales


def test_multi_scale_order_is_the_small_image_then_the_rest():
    model = MultiScalePixelRNN(shape=(1, 3, 4), channels=4, layers=1)
    places = [at[1:] for at in order_of(model)]
    grid = [(0, 0), (0, 2), (2, 0), (2, 2)]
    raster = list(itertools.product(range(3), range(4)))
    assert places == [*grid, *(p for p in raster if p not in grid)]


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 3)], ids=str)
def test_multi_scale_log_likelihood_is_that_of_both_networks(shape):
    """The small image's pixels are scored once, by the small network: the other has mass one on them."""
    model = randomized(MultiScalePixelRNN(shape=shape, channels=6, layers=1).double())
    x = random_x(model, 2)
    small = x[..., ::2, ::2]
    with torch.no_grad():
        log_p = model.log_probs(x)
        torch.testing.assert_close(log_p[..., ::2, ::2], model.small.log_probs(small))
        other = x.clone()
        other[..., 1::2, :] = 1 - x[..., 1::2, :]
        assert torch.equal(model.log_probs(other)[..., ::2, ::2], log_p[..., ::2, ::2])


def test_multi_scale_first_pixels_see_later_ones_of_the_small_image():
    model = randomized(MultiScalePixelRNN(shape=(1, 6, 6), channels=6, layers=1).double())
    assert model.receptive_field((0, 0, 1))[0, 2, 2]
    assert not model.receptive_field((0, 0, 0)).any()
    assert not model.receptive_field((0, 0, 1))[0, 1:, 1::2].any()


@pytest.mark.parametrize("scale", [2, 3])
def test_multi_scale_field_is_what_is_seen(scale):
    model = MultiScalePixelRNN(shape=(1, 5, 11), channels=6, layers=2, scale=scale).double()
    places = [(0, 0, 1), (0, 1, 0), (0, 4, 5), (0, 2, 10), (0, 3, 6)]
    for at, field in zip(places, seen_by(model, places, draws=8), strict=True):
        assert torch.equal(field, model.receptive_field(at)), at


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (RowLSTM, {"shape": (3, 4, 4), "channels": 16}, "channels must be divisible by 3, the channel groups"),
        (DiagonalBiLSTM, {"shape": (3, 4, 4), "final_channels": 32}, "final_channels must be divisible by 3"),
        (RowLSTM, {"kernel_size": 4}, "kernel_size must be an odd integer of at least [13], got 4"),
        (RowLSTM, {"kernel_size": 1}, "kernel_size must be an odd integer of at least 3, got 1"),
        (DiagonalBiLSTM, {"layers": 0}, "layers must be an integer of at least 1, got 0"),
        (DiagonalBiLSTM, {"shape": (28, 28)}, r"shape must be \(C, H, W\), got \(28, 28\)"),
        (MultiScalePixelRNN, {"scale": 1}, "scale must be an integer of at least 2, got 1"),
        (MultiScalePixelRNN, {"shape": (28, 28)}, r"shape must be \(C, H, W\), got \(28, 28\)"),
    ],
)
def test_wrong_arguments(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"shape": (1, 4, 4), "likelihood": Bernoulli(), "channels": 6, **arguments})
