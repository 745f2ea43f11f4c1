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
        run = model.fastest(method)
        whole, views = run["ms"] / 1000, run["views ms"] / 1000
        for floor, name in (
            (0.0, "bound of ADR 26"),
            (launches, f"and launches of {1000 * launches:.0f} ms"),
        ):
            cells = [amount(model.speed_up(whole - views, views, floor, n)) for n in GPUS[1:]]
            rows.append([f"`{method}`", name, f"{100 * views / whole:.0f} %", *cells])
    return table(["method", "", "views' share", *(f"{n} GPUs" for n in GPUS[1:])], rows)


def photo_gpus() -> list[str]:
    """Of photos, by the number of classes."""
    rows = []
    net = model.network("resnet50", model.PHOTO_SIDE)
    launches = model.launching("resnet50", model.PHOTO_SIDE)
    for method in MEASURED:
        for k in CLASSES:
            through, views = (model.PHOTO_BATCH * s for s in model.photo_seconds(method))
            head = model.head_seconds(photo_rows(method), net.features, k)
            whole = through + views + head
            cells = [amount(model.speed_up(through, views + head, launches, n)) for n in GPUS[1:]]
            share = f"{100 * views / whole:.0f} % + {100 * head / whole:.2f} %"
            rows.append([f"`{method}`", f"{k:,}", share, *cells])
    head_row = ["method", "classes", "share of views + of head and loss"]
    return table([*head_row, *(f"{n} GPUs" for n in GPUS[1:])], rows)


def photo_ratio(method: str, gpus: int) -> float:
    """How many times faster than one so many GPUs are with photos, of few classes."""
    through, views = (model.PHOTO_BATCH * seconds for seconds in model.photo_seconds(method))
    return model.speed_up(through, views, model.launching("resnet50", model.PHOTO_SIDE), gpus)


def days() -> list[str]:
    """Of `EPOCHS` epochs of photos, by the number of GPUs."""
    rows = []
    for method in MEASURED:
        through, views = model.photo_seconds(method)
        whole = EPOCHS * (through + views) / 86_400
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
