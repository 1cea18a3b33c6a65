"""A SavedModel's bytes as they follow from its graph alone, so that the same training gives the same digest anywhere.

TensorFlow numbers functions by how many the process has made, names lookup tables after the folder in which the
vocabularies once lay, and adds a random identifier.  Nothing that loads a SavedModel depends on any of the three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

# `__inference_score_packed_25279`, `PartitionedCall-25279`
_NUMBERED = re.compile(r"(.*[_-])(\d+)")
# what an input that a function has captured is called
_CAPTURED = re.compile(r"()(\d+)")
# `hash_table_tf.Tensor(b'/some/folder/vocabulary_currency', shape=(), dtype=string)_-2_-1_load_119_1178`
_LOADED_TABLE = re.compile(r"(hash_table_.*_load_)(\d+_\d+)")
_ARGUMENT = "_user_specified_name"
# A new name may be another function's old one.
_MOVING = "\0"
_TABLE_OF_FILE = re.compile(r"(hash_table_tf\.Tensor\(b')[^']*/")


def canonicalise(saved_model: Path) -> None:
    """Rewrites what differs between two exports of the same model; the model stays the same.

    Args:
        saved_model: the directory that TensorFlow wrote.
    """
    (saved_model / "fingerprint.pb").unlink(missing_ok=True)
    file = saved_model / "saved_model.pb"
    model = SavedModel.FromString(file.read_bytes())
    for graph in model.meta_graphs:
        _rename(graph)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _rename(graph: MetaGraphDef) -> None:
    library, objects = graph.graph_def.library, graph.object_graph_def
    names = _renumbered(_NUMBERED, (function.signature.name for function in library.function))
    gradients = _renumbered(_NUMBERED, _texts(graph, "_gradient_op_type"))
    tables = _renumbered(_LOADED_TABLE, _texts(graph, "shared_name"))
    captures = _renumbered(
        _CAPTURED,
        (
            arguments.attr[_ARGUMENT].s.decode()
            for function in library.function
            for arguments in function.arg_attr.values()
            if _ARGUMENT in arguments.attr
        ),
    )
    for node in _nodes(graph):
        node.op = names.get(node.op, node.op)
        for name, attribute in node.attr.items():
            kind = attribute.WhichOneof("value")
            if name == "_gradient_op_type":
                attribute.s = gradients.get(attribute.s.decode(), attribute.s.decode()).encode()
            elif name == "shared_name":
                shared = attribute.s.decode()
                attribute.s = _TABLE_OF_FILE.sub(r"\1", tables.get(shared, shared)).encode()
            elif kind == "s" and (new := names.get(attribute.s.decode(errors="replace"))):
                attribute.s = new.encode()
            elif kind == "func":
                attribute.func.name = names.get(attribute.func.name, attribute.func.name)
            elif kind == "list":
                for function in attribute.list.func:
                    function.name = names.get(function.name, function.name)
    for function in library.function:
        _rename_arguments(function)
        function.signature.name = names[function.signature.name]
        for attribute in function.attr.values():
            if attribute.WhichOneof("value") == "s" and (new := names.get(attribute.s.decode(errors="replace"))):
                attribute.s = new.encode()
        for arguments in function.arg_attr.values():
            if _ARGUMENT in arguments.attr:
                argument = arguments.attr[_ARGUMENT]
                argument.s = captures.get(argument.s.decode(), argument.s.decode()).encode()
    library.function.sort(key=lambda function: function.signature.name)
    for gradient in library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    library.gradient.sort(key=lambda gradient: gradient.function_name)
    for registered in library.registered_gradients:
        registered.gradient_func = names.get(registered.gradient_func, registered.gradient_func)
        registered.registered_op_type = gradients.get(registered.registered_op_type, registered.registered_op_type)
    library.registered_gradients.sort(key=lambda registered: registered.registered_op_type)
    for node in objects.nodes:
        if node.WhichOneof("kind") == "function":
            node.function.concrete_functions[:] = [names.get(name, name) for name in node.function.concrete_functions]
        elif node.WhichOneof("kind") == "bare_concrete_function":
            bare = node.bare_concrete_function
            bare.concrete_function_name = names.get(bare.concrete_function_name, bare.concrete_function_name)
    for name in list(objects.concrete_functions):
        if names.get(name, name) != name:
            objects.concrete_functions[names[name] + _MOVING].CopyFrom(objects.concrete_functions.pop(name))
    for name in list(objects.concrete_functions):
        if name.endswith(_MOVING):
            objects.concrete_functions[name.removesuffix(_MOVING)].CopyFrom(objects.concrete_functions.pop(name))


def _rename_arguments(function: FunctionDef) -> None:
    """An input that a function has captured carries the number of a tensor in its name."""
    taken = {node.name for node in function.node_def}
    arguments = enumerate(function.signature.input_arg)
    captured = (argument.name for place, argument in arguments if not _declared(function, place))
    new = _renumbered(_NUMBERED, captured)
    new = {old: name for old, name in new.items() if name not in taken}
    for argument in function.signature.input_arg:
        argument.name = new.get(argument.name, argument.name)
    for node in function.node_def:
        node.input[:] = [_reference(one, new) for one in node.input]
    for output, tensor in function.ret.items():
        function.ret[output] = _reference(tensor, new)


def _declared(function: FunctionDef, place: int) -> bool:
    """Whether the function's author named the argument."""
    name = function.arg_attr[place].attr[_ARGUMENT].s.decode() if place in function.arg_attr else ""
    return bool(name) and not _CAPTURED.fullmatch(name)


def _reference(tensor: str, new: Mapping[str, str]) -> str:
    name, colon, output = tensor.partition(":")
    return f"{new.get(name, name)}{colon}{output}"


def _nodes(graph: MetaGraphDef) -> Iterator[NodeDef]:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _texts(graph: MetaGraphDef, attribute: str) -> Iterator[str]:
    """The values of an attribute of nodes."""
    return (node.attr[attribute].s.decode() for node in _nodes(graph) if attribute in node.attr)


def _renumbered(numbered: re.Pattern[str], names: Iterable[str]) -> dict[str, str]:
    """The same names, numbered in the order in which they were made."""
    found = [match for name in sorted(set(names)) if (match := numbered.fullmatch(name))]
    found.sort(key=lambda match: [int(number) for number in match[2].split("_")])
    return {match[0]: f"{match[1]}{number}" for number, match in enumerate(found)}
