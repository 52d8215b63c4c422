"""Writes REFERENCE.md beside this file: what the public modules of fedpress have, as their docstrings say it.

usage: python reference.py [--check]

Read from the sources, so that modules whose libraries are not installed are there, too; of the extension
module, signatures are in its stub and docstrings in what is built.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fedpress._fedpress

HERE = Path(__file__).parent
PACKAGE = HERE.parent
#: In the order of the page.
MODULES = ["", "flower", "torch", "numpy", "submodel", "delta", "exchange", "integers", "nvflare"]
HEAD = """# Reference of the Python package

Made of docstrings by `python python/docs/reference.py`; `python/tests/test_docs.py` holds it to them. [README.md](../README.md) and
[TUTORIAL.md](../TUTORIAL.md) are to begin with.
"""

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Source:
    """A module: its definitions by name, and from where it has others."""

    name: str
    tree: ast.Module

    @classmethod
    def of(cls, name: str) -> Source:
        """Read the source of a module, or the stub of the extension module."""
        path = PACKAGE.joinpath(*name.split("."))
        found = [path / "__init__.py", path.with_suffix(".py"), path.with_suffix(".pyi")]
        return cls(name, ast.parse(next(p for p in found if p.exists()).read_text()))

    def definition(self, name: str) -> tuple[Source, Definition] | None:
        """Find a class or function, here or where it is imported from."""
        for node in self.tree.body:
            if isinstance(node, Definition) and node.name == name:
                return self, node
            if isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
                assert node.module is not None
                return Source.of(node.module).definition(name)
            # Selection = _fedpress.Selection
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                is_class = isinstance(node.value, ast.Attribute)
                return Source.of("fedpress._fedpress").definition(name) if is_class else None
        return None

    def public(self) -> list[str]:
        """Return the names that are for users, in their order."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return list(ast.literal_eval(node.value))
        own = (node.name for node in self.tree.body if isinstance(node, Definition))
        return [name for name in own if not name.startswith("_")]


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(line for name in MODULES for line in module(name))])


def module(name: str) -> Iterator[str]:
    """Give the lines of a module."""
    full = f"fedpress.{name}" if name else "fedpress"
    source = Source.of(full)
    yield f"## {full}\n"
    yield prose(ast.get_docstring(source.tree) or "")
    for item in source.public():
        found = source.definition(item)
        if found is not None:
            yield from definition(full, *found)


def definition(module: str, source: Source, node: Definition) -> Iterator[str]:
    """Give the lines of a class or function."""
    native = source.name.endswith("_fedpress")
    yield f"### {module}.{node.name}\n"
    if isinstance(node, ast.FunctionDef):
        yield f"```python\n{signature(node, node.name)}\n```\n"
        yield prose(text_of(node, native, node.name))
        return
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    made = next((n for n in methods if n.name in ("__init__", "__new__")), None)
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    head = signature(made, node.name) if made else f"class {node.name}" + (f"({bases})" if bases else "")
    yield f"```python\n{head}\n```\n"
    yield prose(text_of(node, native, node.name))
    if made and not native:
        yield prose(ast.get_docstring(made) or "")
    for method in methods:
        if not method.name.startswith("_"):
            yield from member(node.name, method, native)


def member(owner: str, node: ast.FunctionDef, native: bool) -> Iterator[str]:
    """Give the lines of a method or property."""
    decorators = {ast.unparse(d) for d in node.decorator_list}
    name = f"{owner}.{node.name}"
    if "property" in decorators:
        returns = f": {ast.unparse(node.returns)}" if node.returns else ""
        yield f"#### {name}\n\n```python\n{name}{returns}\n```\n"
    else:
        yield f"#### {name}()\n\n```python\n{signature(node, name)}\n```\n"
    yield prose(text_of(node, native, name))


def text_of(node: Definition, native: bool, path: str) -> str:
    """Return the docstring."""
    if not native:
        return ast.get_docstring(node) or ""
    found: object = fedpress._fedpress
    for part in path.split("."):
        found = getattr(found, part)
    return inspect.getdoc(found) or ""


def signature(node: ast.FunctionDef, name: str) -> str:
    """Return the call with its types, one argument a line where it is long."""
    arguments = [re.sub(r"^(\w+: .+?)=", r"\1 = ", a) for a in separate(ast.unparse(node.args))]
    if arguments[0] in ("self", "cls"):
        arguments = arguments[1:]
    returns = (
        f" -> {ast.unparse(node.returns)}"
        if node.returns and node.name not in ("__init__", "__new__")
        else ""
    )
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= 110:
        return line
    lines = ",\n    ".join(arguments)
    return f"{name}(\n    {lines},\n){returns}"


def separate(arguments: str) -> list[str]:
    """Cut at commas that are in no brackets."""
    found, depth = [""], 0
    for character in arguments:
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [part.strip() for part in found]


SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")
ENTRY = re.compile(r"^    (\*{0,2}[\w, .]+): (.*)$")


def prose(docstring: str) -> str:
    """Return a docstring as Markdown: sections as lists, examples as code, roles as what they name."""
    text = re.sub(r":(?:func|class|meth|mod|attr):`~?([^`]+)`", r"`\1`", docstring.replace("``", "`"))
    lines, section, code = [], "", False
    for line in text.splitlines():
        is_code = line.startswith((">>>", "...")) or (code and line != "" and not section)
        if is_code != code:
            lines.append("```python" if is_code else "```")
        code = is_code
        named = SECTION.match(line)
        if named:
            section = named[1]
            lines.append(f"**{section}**\n")
        elif section and (entry := ENTRY.match(line)) and section != "Returns":
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.startswith("    "):
            lines.append(f"  {line.strip()}" if section != "Returns" else line.strip())
        else:
            section = section if line else ""
            lines.append(line)
    if code:
        lines.append("```")
    return re.sub(r"::\n\n", ":\n\n", "\n".join(lines)) + "\n"


def main() -> None:
    """Write the page, or say whether it is the one that is there."""
    path, made = HERE / "REFERENCE.md", page()
    if "--check" not in sys.argv:
        path.write_text(made)
    elif path.read_text() != made:
        sys.exit("python/docs/REFERENCE.md is not what docstrings say: run python python/docs/reference.py")


if __name__ == "__main__":
    main()
