"""The table of a profile's events, in torch's layout."""

from __future__ import annotations

from jtorch.autograd import profiler_util
from jtorch.autograd.profiler_util import EventList

_SORTED_BY = {"cuda": "device", "xpu": "device"}  # what torch called it before other accelerators came
_WIDTH = 12
_FLOPS = ["FLOPs", "KFLOPs", "MFLOPs", "GFLOPs", "TFLOPs", "PFLOPs"]


def _fitted(texts: list[str], most: int | None) -> int:
    width = max(len(t) for t in texts) + 4
    return width if most is None else min(width, most)


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: width - 3] + "..."


def _cut_path(path: str, width: int | None) -> str:
    return path if width is None or len(path) <= width else "..." + path[-(width - 3) :]


def _flops_scale(events) -> tuple[int, str]:
    least = min((e.flops for e in events if e.flops), default=0)
    power = 0
    while power + 1 < len(_FLOPS) and least >= 1000 ** (power + 1):
        power += 1
    return 1000**power, f"Total {_FLOPS[power]}"


def table(
    events: EventList, sort_by: str | None, row_limit: int, src_width: int | None, name_width: int | None,
    shapes_width: int | None, header: str | None, top_level_only: bool, time_unit: str | None,
) -> str:  # fmt: skip
    """See `EventList.table`."""
    if not events:
        return ""
    rows = list(events)
    if sort_by is not None:
        for old, new in _SORTED_BY.items():
            sort_by = sort_by.replace(old, new)
        rows.sort(key=lambda e: getattr(e, sort_by), reverse=True)
    device = next((e.use_device for e in events if e.use_device), events._use_device)
    device = device if any(e.self_device_time_total for e in events) else None
    names = [e.key for e in events]
    shapes = [str(e.input_shapes) for e in events if e.input_shapes is not None]
    has_shapes = any(e.input_shapes for e in events)
    sources = [line for e in events for line in e.stack or ()]
    memory, flops = events._profile_memory, events._with_flops

    total = sum(e.self_cpu_time_total for e in events)
    device_total = sum(e.self_device_time_total for e in events)
    times = profiler_util._time if time_unit is None else lambda us: profiler_util._time_in(us, time_unit)

    columns = [("Name", _fitted(names, name_width))]
    columns += [(t, _WIDTH) for t in ("Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg")]
    if device:
        label = profiler_util._DEVICE_NAMES.get(device, device.upper())
        columns += [(t, _WIDTH) for t in (f"Self {label}", f"Self {label} %", f"{label} total", f"{label} time avg")]
    if memory:
        columns += [(t, _WIDTH) for t in ("CPU Mem", "Self CPU Mem")]
        if device:
            columns += [(t, _WIDTH) for t in (f"{label} Mem", f"Self {label} Mem")]
    columns.append(("# of Calls", _WIDTH))
    if has_shapes:
        columns.append(("Input Shapes", _fitted(shapes, shapes_width)))
    if sources:
        columns.append(("Source Location", _fitted(sources, src_width)))
    scale = 1
    if flops:
        scale, title = _flops_scale(events)
        columns.append((title, _WIDTH))
    widths = [w for _, w in columns]

    left = [title == "Source Location" for title, _ in columns]

    def line(cells) -> str:
        parts = [f"{c:<{w}}" if at_left else f"{c:>{w}}" for c, w, at_left in zip(cells, widths, left, strict=True)]
        return "  ".join(parts) + "  \n"

    rule = line(["-" * w for w in widths])
    full = "=" * len(rule.rstrip()) + "\n"
    text = "" if header is None else f"{full}{header}\n"
    if top_level_only:
        text += full + "This report only display top-level ops statistics\n"
    text += rule + line([title for title, _ in columns]) + rule
    shown = 0
    for e in rows:
        if shown == row_limit:
            break
        if top_level_only and e.cpu_parent is not None:
            continue
        shown += 1
        self_us = e.self_cpu_time_total
        cells = [_cut(e.key, name_width), profiler_util._share(self_us, total), times(self_us)]
        cells += [profiler_util._share(e.cpu_time_total, total), times(e.cpu_time_total), times(e.cpu_time)]
        if device:
            own = e.self_device_time_total
            cells += [
                times(own),
                profiler_util._share(own, device_total),
                times(e.device_time_total),
                times(e.device_time),
            ]
        if memory:
            cells += [profiler_util._memory(e.cpu_memory_usage), profiler_util._memory(e.self_cpu_memory_usage)]
            if device:
                cells += [profiler_util._memory(e.device_memory_usage)]
                cells += [profiler_util._memory(e.self_device_memory_usage)]
        cells.append(str(e.count))
        if has_shapes:
            cells.append(str(e.input_shapes)[:shapes_width])
        stack = e.stack or []
        place = len(cells)
        if sources:
            cells.append(_cut_path(stack[0], src_width) if stack else "")
        if flops:
            cells.append(f"{e.flops / scale:.3f}" if e.flops else "--")
        text += line(cells)
        if sources:
            for frame in stack[1:]:
                cells = [""] * len(widths)
                cells[place] = _cut_path(frame, src_width)
                text += line(cells)
            text += line([""] * len(widths))
    text += rule + f"Self CPU time total: {times(total)}\n"
    if device:
        text += f"Self {label} time total: {times(device_total)}\n"
    return text
