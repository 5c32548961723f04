"""`plinth graph`: specifications, locks, inputs, layers and images, and what leads to what."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from plinth.core.errors import PlinthError
from plinth.core.report import counted, human_size
from plinth.formats.oci.layout import references
from plinth.graph.workspace import Workspace
from plinth.inspect.usage import LayerUse, usage
from plinth.recipe.base import origin
from plinth.recipe.recipe import Recipe

FORMATS = ("dot", "svg", "json")

# Colours of Paul Tol's "light" scheme, which also colour-blind people tell apart.
_STYLE = {
    "spec": 'shape=note fillcolor="#ffffff"',
    "lock": 'shape=folder fillcolor="#eeeeee"',
    "input": 'shape=box fillcolor="#ffffff"',
    "layer": 'shape=box3d fillcolor="#ffffff"',
    "image": 'shape=component fillcolor="#bbcc33"',
}
_SHARED = "#99ddff"


@dataclass(frozen=True)
class Node:
    """One thing: `kind` is spec, lock, input (a wheel, sdist or set of .debs), layer or image;
    `size` in bytes where it has one; `images` hold the layer, for layers."""

    id: str
    kind: str
    label: str
    size: int = 0
    images: tuple[str, ...] = ()


@dataclass
class Graph:
    """Nodes by id, and edges from what is needed to what is made of it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], None] = field(default_factory=dict)

    def add(self, node: Node, *sources: str) -> str:
        """Add `node` unless it is there, with an edge from each of `sources`; its id."""
        self.nodes.setdefault(node.id, node)
        for source in sources:
            self.edges[source, node.id] = None
        return node.id


def graph(ws: Workspace, ids: Sequence[str], *, full: bool) -> Graph:
    """The graph of the images `ids`; `full` shows every input and layer by itself, otherwise
    layers that the same images share are one node.

    An image that is not built has no layers yet. Layers are shared with any image of the layout.

    Raises:
        PlinthError: a specification, a lock or the layout cannot be used.
    """
    made = Graph()
    built = [image for image in ids if image in references(ws.layout)]
    used = {image.id: image for image in usage(ws, built).images} if built else {}
    for image in ids:
        recipe = Recipe.load(ws, image)
        sources = _locks(made, recipe)
        layers = used[image].layers if image in used else ()
        inputs = _inputs(made, recipe, sources) if full else {}
        names = [layer.name for layer in layers]
        if not layers:
            continue
        target = made.add(
            Node(f"image:{image}", "image", image, sum(layer.size for layer in layers))
        )
        for node, layer in _layers(layers, full):
            made.add(node)
            for key in _made_of(layer, names, inputs, recipe, sources, full):
                made.edges[key, node.id] = None
            made.edges[node.id, target] = None
    return made


def _locks(made: Graph, recipe: Recipe) -> dict[str, str]:
    """Nodes of specifications and locks; the ids of the locks by what they lock."""
    image, base = recipe.spec.id, origin(recipe.base.name)
    spec = made.add(Node(f"spec:{image}", "spec", f"images/{image}.toml"))
    base_spec = made.add(Node(f"spec:{base}", "spec", f"base/{base}.toml"))
    found = {
        "base": made.add(Node(f"lock:base/{base}", "lock", f"locks/base/{base}.toml"), base_spec),
        "wheels": made.add(
            Node(f"lock:{image}", "lock", f"locks/{image}/pylock.toml"), spec, base_spec
        ),
    }
    if recipe.os_packages:
        found["os"] = made.add(
            Node(f"lock:{image}/os", "lock", f"locks/{image}/os.toml"), spec, found["base"]
        )
    if recipe.accelerator:
        name = recipe.accelerator.name
        own = made.add(Node(f"spec:{name}", "spec", f"base/{name}.toml"))
        lock = Node(f"lock:base/{name}", "lock", f"locks/base/{name}.toml")
        found["set"] = made.add(lock, own)
    return found


def _inputs(made: Graph, recipe: Recipe, sources: dict[str, str]) -> dict[str, str]:
    """A node for each input; ids by what the layer made of one is called."""
    found = {}
    extra = {package.name for package in recipe.accelerator_wheels}
    for package in recipe.wheels:
        lock = sources["set"] if package.name in extra else sources["wheels"]
        size = package.file.digest.size
        node = Node(f"input:{package.file.digest.hex}", "input", package.file.name, size)
        found[f"{package.name} {package.version}"] = made.add(node, lock)
    for deb in (*recipe.os_packages, *recipe.accelerator_debs):
        lock = sources["os"] if deb in recipe.os_packages else sources["set"]
        name = deb.path.rpartition("/")[2]
        node = Node(f"input:{deb.digest.hex}", "input", name, deb.digest.size)
        found[f"{deb.name} {deb.version}"] = made.add(node, lock)
    for file in recipe.accelerator_files:
        name = file.path.rpartition("/")[2]
        node = Node(f"input:{file.sha256}", "input", name, file.size or 0)
        found[f"{file.name} {file.version}"] = made.add(node, sources["set"])
    if recipe.base_lock.packages:
        size = sum(package.digest.size for package in recipe.base_lock.packages)
        label = f"{len(recipe.base_lock.packages)} Debian packages"
        node = Node(f"input:debs of {recipe.base.name}", "input", label, size)
        found[f"{recipe.base.name} system"] = made.add(node, sources["base"])
    return found


def _layers(layers: Sequence[LayerUse], full: bool) -> Iterator[tuple[Node, LayerUse]]:
    """Each layer with the node it is shown as."""
    groups: dict[tuple[str, ...], list[LayerUse]] = {}
    for layer in layers:
        groups.setdefault(layer.images, []).append(layer)
    for layer in layers:
        if full:
            node = Node(f"layer:{layer.digest.hex}", "layer", layer.name, layer.size, layer.images)
        else:
            group = groups[layer.images]
            total = sum(one.size for one in group)
            label = group[0].name if len(group) == 1 else f"{len(group)} layers"
            key = f"layers:{' '.join(layer.images)}"
            node = Node(key, "layer", label, total, layer.images)
        yield node, layer


def _made_of(
    layer: LayerUse,
    names: Sequence[str],
    inputs: dict[str, str],
    recipe: Recipe,
    sources: dict[str, str],
    full: bool,
) -> Iterator[str]:
    """Ids of what `layer` is made of: its inputs, or in the short form the locks."""
    base = recipe.base.name
    if layer.name in (f"{base} system", f"{base} python") or layer.name.endswith("(unmodified)"):
        yield inputs.get(layer.name, sources["base"])
    elif layer.name == "contract" or layer.name.endswith("linker configuration"):
        yield sources.get("set", sources["base"]) if "linker" in layer.name else sources["base"]
    elif not full:
        debs = {f"{d.name} {d.version}" for d in recipe.accelerator_debs}
        debs |= {f"{file.name} {file.version}" for file in recipe.accelerator_files}
        wheels = {f"{p.name} {p.version}" for p in recipe.accelerator_wheels}
        if layer.name in debs | wheels:
            yield sources["set"]
        elif "OS packages" in layer.name:
            yield sources.get("os", sources["base"])
        else:
            yield sources["wheels"]
    elif layer.name in inputs:
        yield inputs[layer.name]
    else:
        # Small things share a layer: of all inputs that have none of their own.
        wheels = {f"{p.name} {p.version}" for p in recipe.wheels}
        small = "OS packages" in layer.name
        for name, key in inputs.items():
            if name not in names and (name not in wheels) == small:
                yield key


def to_dot(made: Graph) -> str:
    """The graph in Graphviz' language; the same graph gives the same text."""
    lines = [
        "digraph plinth {",
        '  graph [rankdir=LR ranksep=1.2 nodesep=0.15 fontname="sans-serif"]',
        '  node [style=filled fontname="sans-serif" fontsize=11]',
        '  edge [color="#888888" arrowsize=0.6]',
    ]
    for kind in _STYLE:
        nodes = sorted((n for n in made.nodes.values() if n.kind == kind), key=lambda n: n.id)
        if kind in ("spec", "image") and nodes:
            lines.append(f"  {{ rank={'source' if kind == 'spec' else 'sink'}")
        lines += [
            f"  {_quoted(node.id)} [label={_quoted(_label(node))} {_look(node)}]" for node in nodes
        ]
        if kind in ("spec", "image") and nodes:
            lines.append("  }")
    lines += [f"  {_quoted(a)} -> {_quoted(b)}" for a, b in sorted(made.edges)]
    return "\n".join([*lines, "}"]) + "\n"


def _label(node: Node) -> str:
    parts = [node.label]
    if node.size:
        parts.append(human_size(node.size))
    if len(node.images) > 1:
        parts.append(f"in {counted(len(node.images), 'image')}")
    return "\n".join(parts)


def _look(node: Node) -> str:
    style = _STYLE[node.kind]
    if len(node.images) > 1:
        style = style.replace("#ffffff", _SHARED)
        return f"{style} tooltip={_quoted(', '.join(node.images))}"
    return style


def _quoted(text: str) -> str:
    """`text` as a quoted ID of the DOT language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_json(made: Graph) -> str:
    """The graph for programs."""
    document = {
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind,
                "label": node.label,
                "size": node.size,
                "images": list(node.images),
            }
            for node in made.nodes.values()
        ],
        "edges": [list(edge) for edge in made.edges],
    }
    return json.dumps(document, indent=1) + "\n"


def to_svg(made: Graph) -> str:
    """The graph drawn by Graphviz.

    Raises:
        PlinthError: there is no `dot` program, or it fails.
    """
    dot = shutil.which("dot")
    if dot is None:
        raise PlinthError(
            "there is no Graphviz here to draw with",
            expected="the program dot on PATH",
            remedy="install it (apt-get install graphviz), or take --format dot elsewhere",
        )
    done = subprocess.run(
        [dot, "-Tsvg"], input=to_dot(made), check=False, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise PlinthError("Graphviz failed", where=dot, found=done.stderr.strip()[:500])
    return done.stdout


def as_text(made: Graph, form: str) -> str:
    """The graph in one of `FORMATS`."""
    return {"dot": to_dot, "svg": to_svg, "json": to_json}[form](made)
