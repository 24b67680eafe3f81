"""The methods of the model: arguments in, error numbers out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from asyncua import ua

from gonogo.line.opcua.machine import RefusedTransitionError, Stage
from gonogo.line.opcua.model import METHODS, Method
from gonogo.line.opcua.results import Result, values
from gonogo.line.opcua.security import CALLER, Role
from gonogo.line.opcua.space import empty, variant
from gonogo.line.opcua.vision import Vision
from gonogo.names import clean_name

OK = 0
UNKNOWN = -1
"""The recipe, product, configuration or result is not known."""
NOT_ALLOWED = -2
"""A name or a parameter is not allowed."""
_PREPARE_S = 1.5
Handler: TypeAlias = Callable[..., Awaitable[dict[str, Any]]]


def implement(vision: Vision) -> None:
    """Connect every method of the address space with its function here."""
    handlers = _Handlers(vision)
    for method in METHODS:
        handler: Handler = getattr(handlers, method.path.rpartition("/")[2])
        vision.space.implement(method.path, _guarded(vision, method, handler))


def _guarded(vision: Vision, method: Method, handler: Handler) -> Callable[..., Awaitable[Any]]:
    """Check the caller and the arguments, and turn errors into status codes."""
    name = method.path.rpartition("/")[2]

    async def call(_parent: ua.NodeId, *given: ua.Variant) -> Any:
        caller = CALLER.get()
        if caller is None or caller.rights is not Role.OPERATOR:
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        if len(given) != len(method.inputs):
            few = len(given) < len(method.inputs)
            return ua.StatusCode(ua.StatusCodes.BadArgumentsMissing if few else ua.StatusCodes.BadTooManyArguments)
        try:
            found = await handler(*[each.Value for each in given])
        except RefusedTransitionError as error:
            vision.link.refused(str(error))
            return ua.StatusCode(ua.StatusCodes.BadInvalidState)
        except TypeError as error:
            vision.link.refused(f"{name}: {error}")
            return ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
        return [variant(found.get(each.name, empty(each)), each) for each in method.outputs]

    return call


def _id(value: Any) -> str:
    """Return the id in a structure of the model; empty for none.

    Raises:
        TypeError: the argument is something else.
    """
    nothing = isinstance(value, ua.ExtensionObject) and value.TypeId == ua.NodeId()
    found = None if nothing else getattr(value, "Id", value)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise TypeError("expected a structure with an Id")
    return found.strip()


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("expected a number")
    return int(value)


class _Handlers:
    """One function for each method, named like it."""

    def __init__(self, vision: Vision) -> None:
        self._vision = vision

    # --- state machines

    async def ConfirmAll(self, comment: Any) -> dict[str, Any]:  # noqa: N802  names of the model
        """Confirm all conditions of the model: a station has none. It does not acknowledge a held station."""
        return {}

    async def Halt(self, cause: Any, description: Any) -> dict[str, Any]:  # noqa: N802
        await self._leave()
        await self._vision.move(Stage.HALTED, "Halt")
        return {"Error": OK}

    async def Reset(self, cause: Any, description: Any) -> dict[str, Any]:  # noqa: N802
        if self._vision.machine.stage is not Stage.PREOPERATIONAL:
            await self._leave()
            await self._vision.move(Stage.PREOPERATIONAL, "Reset")
        return {"Error": OK}

    async def _leave(self) -> None:
        if self._vision.machine.stage in (Stage.SINGLE_EXECUTION, Stage.CONTINUOUS_EXECUTION):
            await self._vision.end("Abort")
        await self._vision.clear()

    async def SelectModeAutomatic(self) -> dict[str, Any]:  # noqa: N802
        if not self._vision.link.state.ready:
            raise RefusedTransitionError(f"SelectModeAutomatic: {self._vision.link.state.why_not_ready}.")
        await self._vision.move(Stage.INITIALIZED, "SelectModeAutomatic")
        return {"Error": OK}

    async def StartSingleJob(  # noqa: N802
        self, meas: Any, part: Any, recipe: Any, product: Any, parameters: Any
    ) -> dict[str, Any]:
        vision = self._vision
        named = {"meas": _id(meas), "part": _id(part), "recipe": _id(recipe), "product": _id(product)}
        lot, count = _parameters(parameters)
        if not _allowed(lot or "", *named.values()) or (count or 0) < 0:
            return {"Error": NOT_ALLOWED}
        chosen = named["recipe"] or named["product"] or vision.wanted or ""
        if chosen and (chosen not in vision.products or named["product"] not in ("", chosen)):
            return {"Error": UNKNOWN}
        job = vision.new_job(named["meas"], CALLER.get())
        await vision.start_single(job, part=named["part"] or None, lot=lot, product=chosen or None, count=count)
        return {"JobId": vision.space.make("JobIdDataType", Id=job.id), "Error": OK}

    async def StartContinuous(  # noqa: N802
        self, meas: Any, part: Any, recipe: Any, product: Any, parameters: Any
    ) -> dict[str, Any]:
        vision = self._vision
        chosen = _id(recipe) or _id(product)
        if chosen and chosen != vision.link.state.product:
            return {"Error": UNKNOWN}
        job = vision.new_job("", CALLER.get())
        await vision.start_continuous(job)
        return {"JobId": vision.space.make("JobIdDataType", Id=job.id), "Error": OK}

    async def Stop(self, cause: Any, description: Any) -> dict[str, Any]:  # noqa: N802
        await self._vision.end("Stop")
        return {"Error": OK}

    async def Abort(self, cause: Any, description: Any) -> dict[str, Any]:  # noqa: N802
        await self._vision.end("Abort")
        return {"Error": OK}

    # --- recipes and products: each product is a recipe of the same id

    async def PrepareRecipe(self, external: Any, internal: Any) -> dict[str, Any]:  # noqa: N802
        name = _id(internal) or _id(external)
        done, error = await self._select(name, "PrepareRecipe")
        return {"InternalIdOut": self._recipe(name), "IsCompleted": done, "Error": error}

    async def PrepareProduct(self, product: Any) -> dict[str, Any]:  # noqa: N802
        _, error = await self._select(_id(product), "PrepareProduct")
        return {"InternalId": self._recipe(_id(product)), "Error": error}

    async def UnprepareRecipe(self, external: Any, internal: Any) -> dict[str, Any]:  # noqa: N802
        name = _id(internal) or _id(external)
        return {"InternalIdOut": self._recipe(name), "Error": await self._deselect(name, "UnprepareRecipe")}

    async def UnprepareProduct(self, product: Any) -> dict[str, Any]:  # noqa: N802
        error = await self._deselect(_id(product), "UnprepareProduct")
        return {"InternalId": self._recipe(_id(product)), "Error": error}

    async def _select(self, name: str, cause: str) -> tuple[bool, int]:
        vision = self._vision
        if name not in vision.products:
            return False, UNKNOWN
        if vision.machine.stage not in (Stage.INITIALIZED, Stage.READY):
            raise RefusedTransitionError(f"{cause} is not possible in state {vision.machine.stage.label}.")
        if name != vision.link.state.product or vision.wanted is not None:
            vision.wanted = name
            vision.link.select(name)
        vision.prepared = True
        for _ in range(int(_PREPARE_S / 0.05)):
            if vision.link.state.product == name:
                break
            await asyncio.sleep(0.05)
        done = vision.link.state.product == name
        if done:
            vision.wanted = None if vision.wanted == name else vision.wanted
            if vision.machine.stage is Stage.INITIALIZED and vision.link.state.ready:
                await vision.move(Stage.READY, cause)
        return done, OK

    async def _deselect(self, name: str, cause: str) -> int:
        vision = self._vision
        if name not in vision.products or name != vision.link.state.product:
            return UNKNOWN
        if vision.machine.stage is not Stage.INITIALIZED:
            await vision.move(Stage.INITIALIZED, cause)
        vision.prepared = False
        return OK

    def _recipe(self, name: str) -> Any:
        return self._vision.space.make("RecipeIdInternalDataType", Id=name)

    async def GetRecipeListFiltered(  # noqa: N802
        self, external: Any, product: Any, prepared: Any, most: Any, start: Any, timeout: Any
    ) -> dict[str, Any]:
        vision, names = self._vision, {_id(external), _id(product)} - {""}
        now = vision.link.state.product if vision.prepared else None
        found = [each for each in vision.products if names <= {each}]
        if (flag := _number(prepared)) in (0, 1):
            found = [each for each in found if (each == now) is bool(flag)]
        first, limit = _number(start), _number(most) or len(found)
        listed = [self._recipe(each) for each in found[first : first + limit]]
        complete = first + limit >= len(found)
        return {"IsComplete": complete, "ResultCount": len(listed), "RecipeList": listed, "Error": OK}

    async def ReleaseRecipeHandle(self, handle: Any) -> dict[str, Any]:  # noqa: N802
        return {"Error": OK}

    # --- configurations: one, named like the station

    async def ActivateConfiguration(self, internal: Any) -> dict[str, Any]:  # noqa: N802
        return {"Error": OK if _id(internal) == self._vision.configuration else UNKNOWN}

    async def GetConfigurationById(self, internal: Any, timeout: Any) -> dict[str, Any]:  # noqa: N802
        if _id(internal) != self._vision.configuration:
            return {"Error": UNKNOWN}
        return {"Configuration": await self._configuration(), "Error": OK}

    async def GetConfigurationList(self, most: Any, start: Any, timeout: Any) -> dict[str, Any]:  # noqa: N802
        listed = [await self._configuration()] if _number(start) == 0 else []
        return {"IsComplete": True, "ResultCount": len(listed), "ConfigurationList": listed, "Error": OK}

    async def _configuration(self) -> Any:
        node = self._vision.space.nodes["ConfigurationManagement/ActiveConfiguration"]
        return await self._vision.space.server.get_node(node).read_value()

    # --- results

    async def GetResultById(self, result: Any, timeout: Any) -> dict[str, Any]:  # noqa: N802
        found = self._vision.results.get(_id(result))
        return {"Error": UNKNOWN} if found is None else {"Result": self._structure(found), "Error": OK}

    async def GetResultComponentsById(self, result: Any, timeout: Any) -> dict[str, Any]:  # noqa: N802
        found = self._vision.results.get(_id(result))
        return {"Error": UNKNOWN} if found is None else {**values(self._vision.space, found), "Error": OK}

    async def GetResultListFiltered(self, state: Any, *given: Any) -> dict[str, Any]:  # noqa: N802
        meas, part, recipe, internal, _, configuration, product, job, most, start, _ = given
        wanted = {
            "meas_id": _id(meas),
            "part": _id(part),
            "recipe": _id(internal) or _id(recipe),
            "configuration": _id(configuration),
            "product": _id(product),
            "job_id": _id(job),
        }
        found, complete = self._vision.results.matching(
            _number(state), wanted, start=_number(start), most=_number(most)
        )
        listed = [self._structure(each) for each in found]
        return {"IsComplete": complete, "ResultCount": len(listed), "ResultList": listed, "Error": OK}

    def _structure(self, result: Result) -> Any:
        return self._vision.space.make("ResultDataType", **values(self._vision.space, result))

    async def ReleaseResultHandle(self, handle: Any) -> dict[str, Any]:  # noqa: N802
        return {"Error": OK}

    # --- safety

    async def ReportSafetyState(self, triggered: Any, information: Any) -> dict[str, Any]:  # noqa: N802
        if not isinstance(triggered, bool) or not isinstance(information, str | None):
            raise TypeError("expected a Boolean and a text")
        await self._vision.report_safety(triggered, (information or "")[:1_000])
        return {"Error": OK}


def _allowed(*names: str) -> bool:
    for name in names:
        try:
            clean_name(name or "-")
        except ValueError:
            return False
    return True


def _parameters(given: Any) -> tuple[str | None, int | None]:
    """Return the lot and the line's count, the two optional parameters of a job.

    Raises:
        TypeError: there are others.
    """
    found = [each.Value if isinstance(each, ua.Variant) else each for each in given or []]
    lot, count = [*found, None, None][:2]
    if len(found) > 2 or not isinstance(lot, str | None) or not isinstance(count, int | None):
        raise TypeError("expected the lot (a text) and the count of the line (a number) as the only parameters")
    return lot or None, count
