"""The sections of report.html on latents: how much each level tells, and pictures of what they say.

A picture is the mean of p(x|z) where positions are independent given the latents: it shows what these say without the
noise of single pixels. Under an autoregressive decoder it is a draw.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ancestral.data import Data
from ancestral.data.restore import Pictures
from ancestral.distributions import Discrete, Gaussian, Independent
from ancestral.evaluation import per_example
from ancestral.files import read_records
from ancestral.levels import ACTIVE, COLLAPSED, movements, posterior_means
from ancestral.models.latent import LatentVariables
from ancestral.report.draws import CHOSEN_FROM, labels_for, varied
from ancestral.report.figures import curves, svg_of
from ancestral.report.page import paragraph, picture, section, table
from ancestral.report.pictures import beside, in_rows, png, tiles
from ancestral.runs import Run
from ancestral.walk import Factor, Fixed, Joint, Sample, drive, is_latent

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Shades", "between", "levels_section", "reconstructions", "smooth_samples", "top_fixed", "traversal"]

PICTURES = 10  # that are reconstructed
UNITS, STEPS, FARTHEST = 6, 9, 3.0  # moved variables, pictures of each, standard deviations
PAIRS = 6  # of pictures, between which
FIXED, DRAWS, BLOCKS = 6, 8, 4  # pictures whose top is kept, draws in a row of them, ways to keep it
SAMPLES, OF_A_CLASS = 64, 8
MEASURED = 1000  # examples by which levels are measured
QUANTILES = 32  # of a mean
DRAWN = 256  # latents, for the mean and deviation of a prior that is no Gaussian


class Shades:
    """Draws of latents, and x as it is shown: the mean of p where all positions are independent, else a draw.

    Args:
        noise: uniforms of the draws.

    Attributes:
        means: of every channel, (B, *positions); none where x is drawn.
    """

    def __init__(self, noise: Joint) -> None:
        self.noise, self.draw, self.means = noise, Sample(noise), list[Tensor]()

    def __call__(self, factor: Factor) -> Tensor:
        if is_latent(factor.at) or not isinstance(factor.p, Independent):
            return self.draw(factor)
        mean, like = mean_of(factor.p, self.noise.at(factor.at)), self.draw(factor)
        self.means.append(mean)
        return mean.to(like) if like.is_floating_point() else mean.round().to(like)


def mean_of(p: Independent, u: Tensor) -> Tensor:
    """Return the mean of each position, like uniforms u of them; of its quantiles where it has no table of levels."""
    if isinstance(p.base, Discrete):
        pmf = p.log_pmf().exp()
        return pmf @ torch.arange(pmf.shape[-1], device=pmf.device, dtype=pmf.dtype)
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return torch.stack([p.draw(torch.full_like(u, float(m))).double() for m in middles]).mean(0)


def latent(run: Run) -> LatentVariables:
    """Return the model of a run with latents."""
    assert isinstance(run.model, LatentVariables)
    return run.model


def apart(model: LatentVariables) -> bool:
    """Return whether all positions of x are independent given the latents."""
    return not bool(model.receptive_field(tuple(size - 1 for size in model.shape)).any())


def of_x(run: Run, same: bool) -> str:
    """Return what pictures show of p(x|z), in words; where that is a draw, perhaps by the same noise in all of them."""
    if apart(latent(run)):
        return "the mean of p(x|z)"
    return "a draw of p(x|z), by the same noise in every picture" if same else "a draw of p(x|z)"


@torch.no_grad()
def shown(run: Run, n: int, latents: Mapping[int, Tensor], context: Tensor | None, same: bool) -> "list[Image.Image]":
    """Return n pictures of what given latents say, the others drawn from p.

    Args:
        run: of pictures.
        n: how many.
        latents: by level, each (n, *its shape).
        context: of every picture, where the model takes one.
        same: whether all pictures are of the same noise, so that nothing but the latents tells them apart.
    """
    model, generator = latent(run), torch.Generator().manual_seed(0)
    noise = model.uniforms(1 if same else n, generator)
    noise = Joint(noise.x.expand(n, *model.shape), tuple(u.expand(n, *u.shape[1:]) for u in noise.z))
    source = Shades(noise)
    x = drive(model.walk(n, model.check_context(context, n)), Fixed(latents, source))
    return shaded(run, torch.stack(source.means, 1).cpu() if source.means else x.cpu())


def shaded(run: Run, x: Tensor) -> "list[Image.Image]":
    """Return pictures of levels x (N, C, H, W), which may lie between two levels."""
    restore = run.restore
    if not isinstance(restore, Pictures) or restore.dequantized or restore.levels > 256:
        return run.pictures(x)
    return Pictures(256)(x * (255 / (restore.levels - 1)))


def in_lines(pictures: "Sequence[Image.Image]", columns: int) -> "list[Sequence[Image.Image]]":
    """Return pictures in rows of so many."""
    return [pictures[i : i + columns] for i in range(0, len(pictures), columns)]


def pictured(run: Run, data: Data | None) -> bool:
    """Return whether there are test pictures to begin with."""
    return data is not None and bool(len(data.split("test"))) and isinstance(run.restore, Pictures)


def some(run: Run, data: Data, n: int) -> tuple[Tensor, Tensor | None]:
    """Return n test pictures and their context as the model takes it, on its device."""
    x, context = varied(data, n)
    told, device = run.told(context) if run.model.conditioner is not None else None, run.model.device
    return x.to(device), None if told is None else told.to(device)


# --- how much each level tells ------------------------------------------------------------------------------------


def levels_section(run: Run, data: Data | None) -> str:
    """Return how many nats each level takes: over training, and of the test part, with its active variables."""
    return section("What the latents hold", kl_curves(run), "" if data is None else table_of_levels(run, data))


def kl_curves(run: Run) -> str:
    """Return the KL of every level over training, nothing where it was not recorded."""
    records = [r for r in read_records(run.folder / "metrics.jsonl") if r["split"] == "valid" and r.get("kl")]
    if not records:
        return ""
    steps, levels = [r["step"] for r in records], zip(*(r["kl"] for r in records), strict=True)
    lines = {f"z_{level}": (steps, nats) for level, nats in enumerate(levels, 1)}
    drawing = svg_of(curves(lines, "step", "KL(q || p), nats", whole=True), "kl")
    return picture(drawing, "of the valid part, by the averaged weights", "curves of the KL of every level of latents")


def table_of_levels(run: Run, data: Data) -> str:
    """Return a table of the levels, the top first, measured on the test part."""
    if not len(data.split("test")):
        return ""
    model, (kl, means) = latent(run), measured(run, data)
    rows = []
    for level, variance, nats in zip(model.levels, variances(model, means), kl.mean(0).tolist(), strict=True):
        word = "collapsed" if nats < COLLAPSED else ""
        rows.append((f"z_{level}", f"{len(variance):,}", f"{int((variance > ACTIVE).sum()):,}", f"{nats:.2f}", word))
    head = (f"{len(kl):,} examples of the test part", "variables", "active", "KL, nats", "")
    note = f"active: the mean of the posterior has a variance above {ACTIVE:g} over the examples"
    note += f"; collapsed: a KL below {COLLAPSED:g} nats, the level tells next to nothing of an example"
    return table(head, rows[::-1], (1, 2, 3, 4)) + paragraph(note, soft=True)


def variances(model: LatentVariables, means: Tensor) -> tuple[Tensor, ...]:
    """Return how much the posterior means of the variables of each level vary, from what `measured` returns."""
    return movements(means).split([int(np.prod(shape)) for shape in model.network.shapes])


def measured(run: Run, data: Data) -> tuple[Tensor, Tensor]:
    """Return the KL of every level (N, L), and two estimates of all posterior means (N, 2, F), of test examples."""
    model = latent(run)

    def of_batch(x: Tensor, context: Tensor | None, counted: Tensor | None = None) -> Tensor:
        return torch.cat([model.terms(x, context).kl, posterior_means(model, x, context).flatten(1)], 1)

    columns = per_example(of_batch, model, data, "test", data.limited("test", MEASURED))
    kl, means = columns.split([len(model.levels), columns.shape[1] - len(model.levels)], 1)
    return kl, means.unflatten(1, (2, -1))


# --- what they say ------------------------------------------------------------------------------------------------


def smooth_samples(run: Run, data: Data | None) -> str:
    """Return samples as the means of p(x|z), nothing where that is an autoregressive model."""
    if not isinstance(run.restore, Pictures) or not apart(latent(run)) or run.given is not None:
        return ""
    labels = labels_for(run, SAMPLES if run.classes is None else OF_A_CLASS * len(run.classes))
    x = shown(run, SAMPLES if labels is None else len(labels), {}, labels, same=False)
    content = png(in_rows(x, None if labels is None else labels.tolist()))
    caption = "samples of the latents, and the mean of p(x|z) in the place of a draw, which has noise in every pixel"
    return section("Samples without noise", picture(content, caption, "means of p(x|z) of samples of the latents"))


def reconstructions(run: Run, data: Data | None) -> str:
    """Return test pictures, and below each what two draws of its latents say."""
    if data is None or not pictured(run, data):
        return ""
    (x, context), model, generator = some(run, data, PICTURES), latent(run), torch.Generator().manual_seed(0)
    rows = [run.pictures(x.cpu())]
    for _ in range(2):
        z = model.infer(x, context, generator=generator)
        rows.append(shown(run, len(x), dict(zip(model.levels, z, strict=True)), context, same=False))
    caption = f"test pictures; below each what two draws of its latents say of it: {of_x(run, same=False)}"
    return section("Reconstructions", picture(png(tiles(rows)), caption, "test pictures and their reconstructions"))


def traversal(run: Run, data: Data | None) -> str:
    """Return what the most active variables change, each by itself, of the highest level that has not collapsed."""
    if data is None or not pictured(run, data):
        return ""
    (_, context), model, (kl, means) = some(run, data, 1), latent(run), measured(run, data)
    alive = [level for level in model.levels if kl[:, level - 1].mean() >= COLLAPSED]
    if not alive:
        return section("Along the latents", paragraph("Nothing is to be seen: all levels have collapsed."))
    level = alive[-1]
    variance = variances(model, means)[level - 1]
    units = variance.argsort(descending=True, stable=True)[: min(UNITS, max(1, int((variance > ACTIVE).sum())))]
    latents = moved(model, level, units.to(model.device), context)
    n = len(units) * STEPS
    pictures = shown(run, n, latents, None if context is None else context[:1].expand(n, *context.shape[1:]), same=True)
    active = ", ".join(f"{unit} ({variance[unit]:.2f})" for unit in units.tolist())
    caption = (
        f"a row for each of the most active variables of z_{level}, moved from -{FARTHEST:g} to {FARTHEST:g} standard "
        f"deviations of p, all others at their mean{others(model, level)}: {of_x(run, same=True)}. The variables, with "
        f"the variance of their posterior means over test pictures: {active}{of_context(run, context)}"
    )
    content = png(tiles(in_lines(pictures, STEPS)))
    title = "Along the top level" if level == model.levels[-1] else f"Along z_{level}, the highest that tells something"
    return section(title, picture(content, caption, f"traversals of variables of z_{level}"))


def others(model: LatentVariables, level: int) -> str:
    """Return what the other levels are, in words."""
    above = "" if level == model.levels[-1] else ", as the levels above"
    return above + ("" if level == 1 else ", the levels below drawn from p by the same noise everywhere")


def moved(model: LatentVariables, level: int, units: Tensor, context: Tensor | None) -> dict[int, Tensor]:
    """Return a level with each of these variables moved in steps, and the levels above, (units * steps, ...) each."""
    above, mean, std = spread(model, level, context)
    n = len(units) * STEPS
    far = torch.linspace(-FARTHEST, FARTHEST, STEPS, device=mean.device, dtype=mean.dtype).repeat(len(units))
    z, which = mean.repeat(n, *(1,) * (mean.dim() - 1)), units.repeat_interleave(STEPS)
    z.flatten(1)[torch.arange(n, device=z.device), which] += far * std.flatten()[which]
    return {level: z, **{higher: middle.expand(n, *middle.shape[1:]) for higher, middle in above.items()}}


@torch.no_grad()
def spread(model: LatentVariables, level: int, context: Tensor | None) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """Return the means of p of the levels above, and the mean and the standard deviations of p of a level given these.

    All are (1, *shape of the level); where a prior is no Gaussian those of some draws.
    """
    told = None if context is None else context[:1].expand(DRAWN, *context.shape[1:])
    walk, above = model.descent(DRAWN, told), dict[int, Tensor]()
    factor, generator = next(walk), torch.Generator().manual_seed(0)
    while True:
        p, at = factor.p, factor.at[1]
        if isinstance(p, Gaussian):
            mean, std = p.mean[:1], p.log_std[:1].exp()
        else:
            assert p is not None
            u = torch.rand(DRAWN, *model.network.shapes[at - 1], generator=generator, dtype=torch.float64)
            z = p.draw(u.to(model.device))
            mean, std = z.mean(0, keepdim=True), z.std(0, keepdim=True)
        if at == level:
            return above, mean, std
        above[at] = mean
        factor = walk.send(mean.expand(DRAWN, *mean.shape[1:]))


def of_context(run: Run, context: Tensor | None) -> str:
    """Return what a figure is given, in words."""
    if context is None:
        return ""
    if run.given is not None:
        return f"; given {run.given.words} of one test picture"
    return f"; class {(run.classes or ())[int(context[0])]}"


@torch.no_grad()
def between(run: Run, data: Data | None) -> str:
    """Return what lies between pairs of test pictures; both are of one class where the model is told it."""
    pairs = None if data is None or not pictured(run, data) or run.given is not None else pairs_of(run, data)
    if pairs is None:
        return ""
    (a, b, context), model = pairs, latent(run)
    share = torch.linspace(0, 1, STEPS, device=model.device, dtype=model.dtype)
    told, latents = None if context is None else context.repeat_interleave(STEPS), dict[int, Tensor]()
    for level, start, end in zip(model.levels, model.means(a, context), model.means(b, context), strict=True):
        weight = share.view(1, -1, *(1,) * (start.dim() - 1))
        latents[level] = torch.lerp(start[:, None], end[:, None], weight).flatten(0, 1)
    pictures = shown(run, len(a) * STEPS, latents, told, same=True)
    left, right = ([[p] for p in run.pictures(end.cpu())] for end in (a, b))
    caption = (
        f"left and right test pictures{'' if context is None else ' of one class'}; between them all latents go "
        f"straight from the posterior means of the one to those of the other: {of_x(run, same=True)}"
    )
    content = png(beside([tiles(left), tiles(in_lines(pictures, STEPS)), tiles(right)]))
    return section("Interpolations", picture(content, caption, "interpolations between pairs of test pictures"))


def pairs_of(run: Run, data: Data) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Return test pictures, others, and the class of both where the model is told one; None where there are too few."""
    device = run.model.device
    x, labels = data.batch("test", data.limited("test", CHOSEN_FROM))
    if run.classes is None:
        x, _ = varied(data, 2 * PAIRS)
        n = len(x) // 2
        return (x[:n].to(device), x[n : 2 * n].to(device), None) if n else None
    assert labels is not None
    found = [(labels == label).nonzero()[:2, 0] for label in labels.unique()]
    index = torch.stack([two for two in found if len(two) == 2][:PAIRS] or [labels.new_zeros(2)], 1)
    return x[index[0]].to(device), x[index[1]].to(device), labels[index[0]].to(device)


def top_fixed(run: Run, data: Data | None) -> str:
    """Return samples whose top levels are those of test pictures, everything below drawn anew."""
    if data is None or not pictured(run, data):
        return ""
    kept = kept_down_to(latent(run))
    if not kept:
        return ""
    x, context = some(run, data, FIXED)
    each, model = max(2, DRAWS // len(kept)), latent(run)
    z = model.infer(x, context, generator=torch.Generator().manual_seed(0))
    told = None if context is None else context.repeat_interleave(each, 0)
    blocks = [tiles([[p] for p in run.pictures(x.cpu())])]
    for lowest in kept:
        fixed = {level: z[level - 1].repeat_interleave(each, 0) for level in model.levels if level >= lowest}
        blocks.append(tiles(in_lines(shown(run, len(x) * each, fixed, told, same=False), each)))
    top = len(model.levels)
    names = [f"z_{top}" if lowest == top else f"z_{lowest} to z_{top}" for lowest in kept]
    of = ", then ".join(f"{name} kept" for name in names)
    what = of_x(run, same=False)
    caption = f"test pictures, and samples with a draw of their latents: {of}, the rest drawn anew from p: {what}"
    return section("Top levels kept", picture(png(beside(blocks)), caption, "samples with the top levels kept"))


def kept_down_to(model: LatentVariables) -> list[int]:
    """Return the levels down to which latents are kept, the top first: all where they still leave something open."""
    lowest = 2 if apart(model) else 1
    levels = list(range(len(model.levels), lowest - 1, -1))
    chosen = np.unique(np.linspace(0, len(levels) - 1, min(BLOCKS, len(levels))).round().astype(int))
    return [levels[i] for i in chosen]
