"""Which changes are made: those of mutmut that a type checker would not refuse, and three of our own.

Texts are left alone: string literals, f-strings and whatever a ``raise`` says. Changes that give an argument or a
variable ``None`` are left out because mypy in its strict mode refuses most of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import libcst as cst
from mutmut.mutation import file_mutation, mutators

LEFT_OUT = (
    "operator_string",
    "operator_assignment",
    "operator_arg_removal",
    "operator_dict_arguments",
    "operator_lambda",
)
"""Operators of mutmut that are not used; `without_option` stands in for the removal of arguments."""
_NEGATED_ELSEWHERE = (cst.Equal, cst.NotEqual, cst.Is, cst.IsNot, cst.In, cst.NotIn)


def negated_condition(node: cst.If) -> Iterable[cst.If]:
    """``if x`` becomes ``if not (x)``, unless another operator negates it already."""
    test = node.test
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return
    if isinstance(test, cst.Comparison) and isinstance(test.comparisons[0].operator, _NEGATED_ELSEWHERE):
        return
    in_brackets = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(test=cst.UnaryOperation(operator=cst.Not(), expression=in_brackets))


def omitted_call(node: cst.Expr) -> Iterable[cst.Pass]:
    """A call whose result is not used is left out."""
    value = node.value.expression if isinstance(node.value, cst.Await) else node.value
    if isinstance(value, cst.Call):
        yield cst.Pass()


def without_option(node: cst.Call) -> Iterable[cst.Call]:
    """``f(a, joint=joint)`` becomes ``f(a)``: the default is used; without a default the call fails."""
    for index, argument in enumerate(node.args):
        if argument.keyword is not None and len(node.args) > 1:
            yield node.with_changes(args=[*node.args[:index], *node.args[index + 1 :]])


class Visitor(file_mutation.MutationVisitor):
    """Leaves texts alone."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Raise | cst.FormattedString):
            return True
        return super()._skip_node_and_children(node)


def install() -> None:
    """Make mutmut use these operators."""
    kept: Sequence[Any] = [pair for pair in mutators.mutation_operators if pair[1].__name__ not in LEFT_OUT]
    own: Sequence[Any] = [(cst.If, negated_condition), (cst.Expr, omitted_call), (cst.Call, without_option)]
    file_mutation.mutation_operators = [*kept, *own]  # type: ignore[attr-defined]
    file_mutation.MutationVisitor = Visitor  # type: ignore[misc]
