"""The tables of docs/explanation/scale.md on GPU hours and on several GPUs."""

from __future__ import annotations

from benchmarks import scale_model as model
from benchmarks.scale_words import CLASSES, GPUS, IMAGES, amount, count, size, table

EPOCHS, SOME_GPUS = 100, (1, 8, 64)
MEASURED = ("cr_dpll", "mixmatch", "fixmatch", "paws")


def hours() -> list[str]:
    """GPU hours of one epoch."""
    rows = []
    for method in MEASURED:
        least = model.roofline(model.small_passes(method))
        fastest = model.fastest(method)
        taken = fastest["ms"] / 1000 / model.SEEN[method]
        floor = model.roofline(model.photo_passes(method))
        through, views = model.photo_seconds(method)
        small = [amount(n * s / 3600) for n in IMAGES for s in (least, taken)]
        photos = [amount(n * s / 3600) for n in IMAGES for s in (floor, through + views)]
        way = f"{fastest['way']}, {taken / least:.1f}"
        rows.append([f"`{method}`", way, *small, *photos])
    head = ["method", "measured way, times the roofline"]
    small_head = [
        f"{count(n)} of 32 px, {what}" for n in IMAGES for what in ("roofline", "measured ratio")
    ]
    photo_head = [f"{count(n)} of 224, {what}" for n in IMAGES for what in ("roofline", "expected")]
    return table([*head, *small_head, *photo_head], rows)


def small_gpus() -> list[str]:
    """Of the papers' batches of small images: the bound of ADR 26, and what launches leave of it."""
    rows = []
    launches = model.launching("wrn_28_2", 32)
    for method in MEASURED:
        share = f"{100 * model.views_ms(method) / model.fastest(method)['ms']:.0f} %"
        for floor, name in (
            (0.0, "repeated views (ADR 26)"),
            (launches, f"and by launches of {1000 * launches:.0f} ms"),
        ):
            cells = [amount(small_ratio(method, n, floor)) for n in GPUS[1:]]
            rows.append([f"`{method}`", name, share, *cells])
    return table(["method", "slowed by", "views' share", *(f"{n} GPUs" for n in GPUS[1:])], rows)


def small_ratio(method: str, gpus: int, launches: float) -> float:
    """How many times faster than one so many GPUs are with small images."""
    whole, views = model.fastest(method)["ms"] / 1000, model.views_ms(method) / 1000
    return model.speed_up(whole - views, views, launches, gpus)


def views() -> list[str]:
    """Where the time of a step of small images goes, and what is taken for its views."""
    rows = []
    for method in MEASURED:
        run = model.fastest(method)
        names = ("ms", "views ms", "of it drawn ahead ms")
        times = (*(run[name] for name in names), model.network_ms(method), model.views_ms(method))
        rests = [
            other["views ms"] - other["of it drawn ahead ms"]
            for other in model.steps(method).values()
            if "views ms" in other
        ]
        spread = f"{amount(min(rests))} to {amount(max(rests))}"
        rows.append([f"`{method}`", run["way"], *(amount(ms) for ms in times), spread])
    head = ["method", "way", "step, ms", "views timed alone", "of it drawn ahead"]
    last = ["network, timed alone", "taken for views", "views less draws, beside any way"]
    return table([*head, *last], rows)


def photo_gpus() -> list[str]:
    """Of photos, by the number of classes."""
    rows = []
    for method in MEASURED:
        for k in CLASSES:
            parts = photo_step(method, k)
            cells = [amount(photo_ratio(method, n, k)) for n in GPUS[1:]]
            _, views, head = (100 * seconds / sum(parts) for seconds in parts)
            share = f"{views:.0f} % + {head:.2f} %"
            rows.append([f"`{method}`", f"{k:,}", share, *cells])
    head_row = ["method", "classes", "share of views + of head and loss"]
    return table([*head_row, *(f"{n} GPUs" for n in GPUS[1:])], rows)


def photo_step(method: str, classes: int) -> tuple[float, float, float]:
    """Seconds of a step of photos on one GPU: through the network, making views, head and loss."""
    through, views = (model.PHOTO_BATCH * seconds for seconds in model.photo_seconds(method))
    features = model.network("resnet50", model.PHOTO_SIDE).features
    return through, views, model.head_seconds(photo_rows(method), features, classes)


def photo_ratio(method: str, gpus: int, classes: int = CLASSES[0]) -> float:
    """How many times faster than one so many GPUs are with photos."""
    through, *repeated = photo_step(method, classes)
    launches = model.launching("resnet50", model.PHOTO_SIDE)
    return model.speed_up(through, sum(repeated), launches, gpus)


def days() -> list[str]:
    """Of `EPOCHS` epochs of photos of the smaller number of classes, by the number of GPUs."""
    rows = []
    for method in MEASURED:
        whole = EPOCHS * sum(photo_step(method, CLASSES[0])) / model.PHOTO_BATCH / 86_400
        ratios = [photo_ratio(method, n) for n in SOME_GPUS]
        rows.append([f"`{method}`", *(amount(n * whole / r) for n in IMAGES for r in ratios)])
    return table(
        [
            "method",
            *(f"{count(n)}, {gpus} GPU{'s'[: gpus > 1]}" for n in IMAGES for gpus in SOME_GPUS),
        ],
        rows,
    )


def photo_rows(method: str) -> float:
    """Rows through the network in a step of photos."""
    return model.PHOTO_BATCH * sum(number for number, *_ in model.photo_passes(method))


def exchange() -> list[str]:
    """Bytes that a GPU sends in a step, and how long that takes by data sheets."""
    rows = []
    for name, side, batch in (
        ("wrn_28_2", 32, 3 * 64),
        ("resnet50", model.PHOTO_SIDE, 3 * model.PHOTO_BATCH),
    ):
        net = model.network(name, side)
        for n in GPUS[1:]:
            sent = model.exchanged(net, batch, n)
            link = model.LINK if n <= model.GPUS_PER_MACHINE else model.NETWORK_LINK
            cells = [size(sent), f"{1000 * sent / link:.2g}", str(4 * net.norms + 2)]
            rows.append([f"`{name}`", f"{batch:,}", str(n), *cells])
    return table(["network", "rows", "GPUs", "sent by each", "ms at least", "messages"], rows)
