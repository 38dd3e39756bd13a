"""What threads do together: barriers of a block or a warp, shuffles and votes of a warp."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.run import Run
from studylib.gpu.findings import stop
from studylib.gpu.hardware import WARP, warps_in
from studylib.gpu.language import typing_rules as types

FULL_WARP = np.int64(0xFFFFFFFF)
LANES = np.arange(WARP)


def _integer(run: Run, node: ast.Call, value, what: str, bool_too: bool = False):
    if value.dtype.kind not in ("iub" if bool_too else "iu"):
        hint = "; write int32(...)" if value.dtype == types.BOOL else ""
        run.reject(f"{ast.unparse(node.func)} takes an integer as {what}, got {value.dtype.name}{hint}", node)
    return value


# -- the block


def _barrier(run: Run, node: ast.Call, mask: Mask) -> None:
    machine = run.machine
    if not mask.full and machine.lanes:
        rows = machine.by_block(mask.lanes)
        here = rows.sum(axis=1)
        divergent = (here > 0) & (here < machine.grid.threads)
        if divergent.any():
            block = int(divergent.argmax())
            lane = block * machine.grid.threads + int(rows[block].argmin())
            why = "has returned before" if machine.returned[lane] else "takes a path without it"
            run.fail(
                "barrier-divergence",
                f"{ast.unparse(node.func)} is reached by {here[block]} of the {machine.grid.threads} threads "
                f"of the block: {machine.name(lane)} {why}",
                node,
            )
    machine.observer.barrier(machine, mask)


def _syncthreads(run: Run, node: ast.Call, mask: Mask, used: bool) -> None:
    _barrier(run, node, mask)


def _barrier_with(reduce: Callable[[np.ndarray], Any]):
    def compute(run: Run, node: ast.Call, mask: Mask, used: bool, value):
        _integer(run, node, value, "predicate")
        _barrier(run, node, mask)
        holds = np.broadcast_to(value != 0, mask.lanes.shape)
        result = reduce(run.machine.by_block(holds)).astype(np.int32)
        return np.repeat(result, run.machine.grid.threads)

    return compute


# -- the warp


def _members(run: Run, node: ast.Call, mask: Mask, members, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(active lanes, member mask that each lane gives), both (warps, 32), after a check that they fit.

    Groups of lanes may each give a mask of their own: half warps 0xFFFF and 0xFFFF0000.
    """
    machine = run.machine
    active = machine.warps(mask.lanes, False)
    bits = np.broadcast_to(types.cast(members, types.INT64), mask.lanes.shape)
    rows = machine.warps(bits, 0)
    given = np.where(active, rows, 0)
    named = (np.bitwise_or.reduce(given, axis=1, keepdims=True) >> LANES) & 1 == 1
    alive = machine.warps(~machine.returned, False)
    missing = named & alive & ~active & active.any(axis=1, keepdims=True)
    name = ast.unparse(node.func)
    if missing.any():
        lane = _lane_of(machine, missing)
        message = f"{name} is to be called by all lanes of its member mask, but {machine.name(lane)} is not here"
        machine.report(stop(kind, message, run.site(node)))
    outside = active & ((rows >> LANES) & 1 == 0)
    if outside.any():
        lane = _lane_of(machine, outside)
        message = f"{machine.name(lane)} calls {name}, but its member mask does not name its lane {lane % WARP}"
        machine.report(stop(kind, message, run.site(node)))
    if members.ndim:
        _one_mask_a_group(run, node, kind, active, rows)
    return active, rows


def _one_mask_a_group(run: Run, node: ast.Call, kind: str, active: np.ndarray, rows: np.ndarray) -> None:
    # All lanes that a lane's mask names must give the same mask.
    machine = run.machine
    for other in range(WARP):
        names_it = active & active[:, [other]] & ((rows >> other) & 1 == 1)
        unlike = names_it & (rows != rows[:, [other]])
        if unlike.any():
            me, them = machine.name(_lane_of(machine, unlike)), machine.name(_lane_of(machine, unlike, other))
            message = (
                f"{me} calls {ast.unparse(node.func)} with a member mask, but {them}, which it names, gives another one"
            )
            machine.report(stop(kind, message, run.site(node)))
            return


def _lane_of(machine: Machine, rows: np.ndarray, instead: int | None = None) -> int:
    """The chunk's lane of the first true place of a (warps, 32) matrix, or of another place in that warp."""
    warp, place = divmod(int(rows.argmax()), WARP)
    place = place if instead is None else instead
    block, within = divmod(warp, warps_in(machine.grid.threads))
    return block * machine.grid.threads + within * WARP + place


def _syncwarp(run: Run, node: ast.Call, mask: Mask, used: bool, members=FULL_WARP) -> None:
    _integer(run, node, members, "member mask")
    _members(run, node, mask, members, "barrier-divergence")
    run.machine.observer.warp_barrier(run.machine, mask)


def _shuffle(source: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    def compute(run: Run, node: ast.Call, mask: Mask, used: bool, members, value, operand):
        _integer(run, node, members, "member mask")
        _integer(run, node, operand, "lane")
        if value.dtype not in (types.INT32, types.INT64, types.FLOAT32, types.FLOAT64):
            run.reject(f"{ast.unparse(node.func)} moves int32, int64, float32 and float64, got {value.dtype}", node)
        machine = run.machine
        active, groups = _members(run, node, mask, members, "shuffle")
        rows = machine.warps(np.broadcast_to(value, mask.lanes.shape), 0)
        # The hardware takes the low five bits.
        by = machine.warps(np.broadcast_to(types.cast(operand, types.INT64) & (WARP - 1), mask.lanes.shape), 0)
        wanted = source(LANES, by)
        wanted = np.where((wanted < 0) | (wanted >= WARP), LANES, wanted)
        lost = active & ~(np.take_along_axis(active, wanted, axis=1) & ((groups >> wanted) & 1 == 1))
        if lost.any():
            lane = _lane_of(machine, lost)
            place = int(wanted.reshape(-1)[lost.argmax()])
            message = f"{machine.name(lane)} reads from lane {place}, which does not take part: the value is undefined"
            machine.report(stop("shuffle", message, run.site(node)))
        return machine.unwarp(np.take_along_axis(rows, wanted, axis=1))

    return compute


def _vote(reduce: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    """reduce: of the bits of a lane's group, those where the predicate holds and those that take part."""

    def compute(run: Run, node: ast.Call, mask: Mask, used: bool, members, predicate):
        _integer(run, node, members, "member mask")
        _integer(run, node, predicate, "predicate", bool_too=True)
        machine = run.machine
        active, groups = _members(run, node, mask, members, "shuffle")
        holds = machine.warps(np.broadcast_to(types.truth(predicate), mask.lanes.shape), False) & active
        return machine.unwarp(reduce(_bits(holds) & groups, _bits(active) & groups))

    return compute


def _bits(rows: np.ndarray) -> np.ndarray:
    return (rows.astype(np.int64) << LANES).sum(axis=1, keepdims=True)


def _ballot(holds: np.ndarray, active: np.ndarray) -> np.ndarray:
    return holds.astype(np.uint32).view(np.int32)  # Numba's ballot_sync is an int32


# (what computes it, the least and the most arguments)
INTRINSICS: dict[str, tuple[Callable, int, int]] = {
    "syncthreads": (_syncthreads, 0, 0),
    "syncthreads_count": (_barrier_with(lambda rows: rows.sum(axis=1)), 1, 1),
    "syncthreads_and": (_barrier_with(lambda rows: rows.all(axis=1)), 1, 1),
    "syncthreads_or": (_barrier_with(lambda rows: rows.any(axis=1)), 1, 1),
    "syncwarp": (_syncwarp, 0, 1),
    "shfl_sync": (_shuffle(lambda own, by: by + 0 * own), 3, 3),
    "shfl_up_sync": (_shuffle(lambda own, by: own - by), 3, 3),
    "shfl_down_sync": (_shuffle(lambda own, by: own + by), 3, 3),
    "shfl_xor_sync": (_shuffle(lambda own, by: own ^ by), 3, 3),
    "ballot_sync": (_vote(_ballot), 2, 2),
    "any_sync": (_vote(lambda holds, active: holds != 0), 2, 2),
    "all_sync": (_vote(lambda holds, active: holds == active), 2, 2),
}
