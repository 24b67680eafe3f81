"""The part of OPC 40100-1 (machine vision, control) that a station serves, as data.

Names, types and numbers are those of the companion specification, so that a client finds the same nodes whether the
official nodeset is loaded or this module stands in for it. Optional parts that a station cannot serve honestly are
left out: transfer of files, step models, adding and removing recipes, simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

OFFICIAL_NAMESPACE = "http://opcfoundation.org/UA/MachineVision"
OWN_NAMESPACE = "urn:gonogo:machine-vision"
SYSTEM = "VisionSystem"
LATEST = "ResultManagement/Results/LatestResult"


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a structure or an event, or an argument of a method."""

    name: str
    type: str
    array: bool = False
    optional: bool = False


def fields(text: str) -> tuple[Field, ...]:
    """Parse ``Name:Type``, separated by spaces; ``[]`` after the type marks an array, ``?`` an optional field."""
    found = []
    for each in text.split():
        name, _, kind = each.partition(":")
        bare = kind.removesuffix("?")
        found.append(
            Field(name=name, type=bare.removesuffix("[]"), array=bare.endswith("[]"), optional=kind.endswith("?"))
        )
    return tuple(found)


SIMPLE_TYPES = {"ResultStateDataType": "Int32", "Handle": "UInt32"}
"""Data types that only name another one; ``TrimmedString`` is a standard type by now."""
ENUMERATIONS = {
    "SystemStateDataType": {"PRD_1": 1, "SBY_2": 2, "ENG_3": 3, "SDT_4": 4, "UDT_5": 5, "NST_6": 6},
    "TriStateBooleanDataType": {"FALSE_0": 0, "TRUE_1": 1, "DONTCARE_2": 2},
}
_NAMED = "Id:TrimmedString Description:LocalizedText?"
STRUCTURES = {
    name: fields(text)
    for name, text in {
        "BinaryIdBaseDataType": (
            "Id:TrimmedString Version:TrimmedString? Hash:ByteString? HashAlgorithm:String? Description:LocalizedText?"
        ),
        "JobIdDataType": "Id:TrimmedString",
        "MeasIdDataType": _NAMED,
        "PartIdDataType": _NAMED,
        "ProductIdDataType": _NAMED,
        "ResultIdDataType": "Id:TrimmedString",
        "ProcessingTimesDataType": (
            "StartTime:UtcTime EndTime:UtcTime AcquisitionDuration:Duration? ProcessingDuration:Duration?"
        ),
        "ProductDataType": "ExternalId:ProductIdDataType",
        "ConfigurationDataType": (
            "HasTransferableDataOnFile:Boolean? ExternalId:ConfigurationIdDataType? InternalId:ConfigurationIdDataType "
            "LastModified:UtcTime"
        ),
        "SystemStateDescriptionDataType": "State:SystemStateDataType StateDescription:TrimmedString?",
        "ResultDataType": (
            "ResultId:ResultIdDataType HasTransferableDataOnFile:Boolean? IsPartial:Boolean IsSimulated:Boolean? "
            "ResultState:ResultStateDataType MeasId:MeasIdDataType? PartId:PartIdDataType? "
            "ExternalRecipeId:RecipeIdExternalDataType? InternalRecipeId:RecipeIdInternalDataType "
            "ProductId:ProductIdDataType? ExternalConfigurationId:ConfigurationIdDataType? "
            "InternalConfigurationId:ConfigurationIdDataType JobId:JobIdDataType CreationTime:UtcTime "
            "ProcessingTimes:ProcessingTimesDataType? ResultContent:BaseDataType[]?"
        ),
    }.items()
}
BINARY_IDS = ("ConfigurationIdDataType", "RecipeIdExternalDataType", "RecipeIdInternalDataType")
"""Structures with the fields of ``BinaryIdBaseDataType``."""

RESULT = fields(
    "CreationTime:UtcTime InternalConfigurationId:ConfigurationIdDataType InternalRecipeId:RecipeIdInternalDataType "
    "IsPartial:Boolean IsSimulated:Boolean JobId:JobIdDataType MeasId:MeasIdDataType PartId:PartIdDataType "
    "ProcessingTimes:ProcessingTimesDataType ProductId:ProductIdDataType ResultContent:BaseDataType[] "
    "ResultId:ResultIdDataType ResultState:ResultStateDataType"
)
"""The components of a result that a station fills, as variables and as fields of the event."""
TRANSITION_EVENT, BASE_EVENT = 2311, 2041
EVENTS = {
    "StateChangedEventType": (TRANSITION_EVENT, ()),
    "ErrorEventType": (TRANSITION_EVENT, ()),
    "ErrorResolvedEventType": (TRANSITION_EVENT, ()),
    "JobStartedEventType": (BASE_EVENT, fields("JobId:JobIdDataType")),
    "ReadyEventType": (BASE_EVENT, fields("JobId:JobIdDataType")),
    "RecipePreparedEventType": (BASE_EVENT, fields("InternalId:RecipeIdInternalDataType ProductId:ProductIdDataType")),
    "ResultReadyEventType": (BASE_EVENT, RESULT),
    "VisionSafetyEventType": (BASE_EVENT, fields("VisionSafetyInformation:String VisionSafetyTriggered:Boolean")),
}
"""The event types: number of the base type, and the fields that a station fills."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method, by its path below the vision system."""

    path: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]


def _method(path: str, inputs: str, outputs: str) -> Method:
    return Method(path=path, inputs=fields(inputs), outputs=fields(outputs))


_MACHINE, _AUTOMATIC = "VisionStateMachine", "VisionStateMachine/AutomaticModeStateMachine"
_CAUSE, _ERROR = "Cause:Int32 CauseDescription:String", "Error:Int32"
_JOB = (
    "MeasId:MeasIdDataType PartId:PartIdDataType RecipeId:RecipeIdExternalDataType ProductId:ProductIdDataType "
    "Parameters:BaseDataType[]"
)
_RECIPE = "ExternalId:RecipeIdExternalDataType InternalIdIn:RecipeIdInternalDataType"
_LISTED = "MaxResults:UInt32 StartIndex:UInt32 Timeout:Int32"
METHODS = (
    _method(f"{_MACHINE}/ConfirmAll", "Comment:LocalizedText", ""),
    _method(f"{_MACHINE}/Halt", _CAUSE, _ERROR),
    _method(f"{_MACHINE}/Reset", _CAUSE, _ERROR),
    _method(f"{_MACHINE}/SelectModeAutomatic", "", _ERROR),
    _method(f"{_AUTOMATIC}/Abort", _CAUSE, _ERROR),
    _method(f"{_AUTOMATIC}/StartContinuous", _JOB, f"JobId:JobIdDataType {_ERROR}"),
    _method(f"{_AUTOMATIC}/StartSingleJob", _JOB, f"JobId:JobIdDataType {_ERROR}"),
    _method(f"{_AUTOMATIC}/Stop", _CAUSE, _ERROR),
    _method("ConfigurationManagement/ActivateConfiguration", "InternalId:ConfigurationIdDataType", _ERROR),
    _method(
        "ConfigurationManagement/GetConfigurationById",
        "InternalId:ConfigurationIdDataType Timeout:Int32",
        f"ConfigurationHandle:Handle Configuration:ConfigurationDataType {_ERROR}",
    ),
    _method(
        "ConfigurationManagement/GetConfigurationList",
        _LISTED,
        "IsComplete:Boolean ResultCount:UInt32 ConfigurationHandle:Handle ConfigurationList:ConfigurationDataType[] "
        "Error:Int32",
    ),
    _method(
        "RecipeManagement/GetRecipeListFiltered",
        f"ExternalId:RecipeIdExternalDataType ProductId:ProductIdDataType IsPrepared:TriStateBooleanDataType {_LISTED}",
        "IsComplete:Boolean ResultCount:UInt32 RecipeHandle:Handle RecipeList:RecipeIdInternalDataType[] Error:Int32",
    ),
    _method("RecipeManagement/PrepareProduct", "ProductId:ProductIdDataType", f"InternalId:{BINARY_IDS[2]} {_ERROR}"),
    _method("RecipeManagement/PrepareRecipe", _RECIPE, f"InternalIdOut:{BINARY_IDS[2]} IsCompleted:Boolean {_ERROR}"),
    _method("RecipeManagement/ReleaseRecipeHandle", "RecipeHandle:Handle", _ERROR),
    _method("RecipeManagement/UnprepareProduct", "ProductId:ProductIdDataType", f"InternalId:{BINARY_IDS[2]} {_ERROR}"),
    _method("RecipeManagement/UnprepareRecipe", _RECIPE, f"InternalIdOut:{BINARY_IDS[2]} {_ERROR}"),
    _method(
        "ResultManagement/GetResultById",
        "ResultId:ResultIdDataType Timeout:Int32",
        f"ResultHandle:Handle Result:ResultDataType {_ERROR}",
    ),
    _method(
        "ResultManagement/GetResultComponentsById",
        "ResultId:ResultIdDataType Timeout:Int32",
        "HasTransferableDataOnFile:Boolean ResultHandle:Handle IsPartial:Boolean IsSimulated:Boolean "
        "ResultState:ResultStateDataType MeasId:MeasIdDataType PartId:PartIdDataType "
        "ExternalRecipeId:RecipeIdExternalDataType InternalRecipeId:RecipeIdInternalDataType "
        "ProductId:ProductIdDataType ExternalConfigurationId:ConfigurationIdDataType "
        "InternalConfigurationId:ConfigurationIdDataType JobId:JobIdDataType CreationTime:UtcTime "
        "ProcessingTimes:ProcessingTimesDataType ResultContent:BaseDataType[] Error:Int32",
    ),
    _method(
        "ResultManagement/GetResultListFiltered",
        "ResultState:ResultStateDataType MeasId:MeasIdDataType PartId:PartIdDataType "
        "ExternalRecipeId:RecipeIdExternalDataType InternalRecipeId:RecipeIdInternalDataType "
        "ExternalConfigurationId:ConfigurationIdDataType InternalConfigurationId:ConfigurationIdDataType "
        f"ProductId:ProductIdDataType JobId:JobIdDataType {_LISTED}",
        "IsComplete:Boolean ResultCount:UInt32 ResultHandle:Handle ResultList:ResultDataType[] Error:Int32",
    ),
    _method("ResultManagement/ReleaseResultHandle", "ResultHandle:Handle", _ERROR),
    _method("SafetyStateManagement/ReportSafetyState", "SafetyTriggered:Boolean SafetyInformation:String", f"{_ERROR}"),
)
VARIABLES = {
    "ConfigurationManagement/ActiveConfiguration": "ConfigurationDataType",
    "SafetyStateManagement/VisionSafetyInformation": "String",
    "SafetyStateManagement/VisionSafetyTriggered": "Boolean",
    "SystemState": "SystemStateDescriptionDataType",
}
"""Data type of each variable, by its path below the vision system; the state machines' variables come with them."""
MACHINES = (_MACHINE, _AUTOMATIC)
FOLDERS = ("RecipeManagement/Products", "ResultManagement/Results")
