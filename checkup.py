"""The commands that look at things: inspect and verify at a bundle, doctor at this device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from srd_edge.errors import BundleError
from srd_edge.usage import Command

_BUNDLE: Final = click.argument("bundle", type=click.Path(path_type=Path), required=False)
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.command(cls=Command)
@_BUNDLE
@_JSON
def inspect(bundle: Path | None, as_json: bool) -> None:
    """Say what is in a BUNDLE (default: the built-in one) without running it."""
    from srd_edge.runtime.bundle import read_bundle

    opened = read_bundle(bundle)  # refused where the onnx package is missing too
    from srd_edge.export.inspection import inspect_bundle

    described = inspect_bundle(opened)
    click.echo(json.dumps(described, indent=2) if as_json else "\n".join(_told(described)))


@click.command(cls=Command)
@_BUNDLE
def verify(bundle: Path | None) -> None:
    """Refuse a BUNDLE that is damaged, or whose graphs hold what they may not."""
    from srd_edge.runtime.bundle import read_bundle
    from srd_edge.runtime.bundle_specs import MERGED_KINDS, USE_CACHE_BRANCH

    opened = read_bundle(bundle)
    from srd_edge.export.inspection import graphs_of, verify_bundle

    findings = verify_bundle(opened)
    for finding in findings:
        click.echo(f"{finding.graph}: {finding.what}", err=True)
    if findings:
        raise BundleError(
            expected="graphs of known operators without a hidden branch",
            found=f"{len(findings)} findings, {findings[0].what} in {findings[0].graph}",
            do="do not run this bundle; export the captioner again from its source",
        )
    size = sum(entry.bytes for entry in opened.manifest.files)
    branch = "no branch on what they are fed"
    if opened.manifest.captioner.decoding in MERGED_KINDS:
        branch = f"no branch on what they are fed but {USE_CACHE_BRANCH}, which the runtime sets"
    click.echo(
        f"{opened.directory}: {len(opened.manifest.files)} files of {size / 1e6:.1f} MB as listed, "
        f"{len(graphs_of(opened))} graphs of known operators, {branch}"
    )


@click.command(cls=Command)
@click.option("--bundle", type=click.Path(path_type=Path), help="Whose encoder to run.")
@_JSON
def doctor(bundle: Path | None, as_json: bool) -> None:
    """Say what is installed here and which execution providers really run."""
    from srd_edge.runtime.doctor import examine

    found = examine(bundle)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"srd-edge {found['srd_edge']}, Python {found['python']}, {found['machine']}")
    click.echo(f"cores this process may use: {found['cores']}")
    for name, version in found["packages"].items():
        click.echo(f"  {name:<24} {version or '-'}")
    for name, report in found["providers"].items():
        ran = " and ".join(
            f"{count} nodes of the encoder on {where}" for where, count in report["nodes"].items()
        )
        click.echo(f"{name:<15} {'works: ran ' + ran if report['works'] else report['problem']}")
        if report["mend"]:
            click.echo(f"{'':<15} {report['mend']}")


def _told(described: Mapping[str, Any], indent: str = "") -> list[str]:
    """The description of a bundle for people."""
    width, height = described["canvas"]
    canvas = "pictures of any size, tiles" if described["tiling"] else "canvas"
    defence = "defended" if described["defended"] else "undefended"
    size_mb = described["bytes"] / 1e6
    lines = [
        f"{described['directory']}: {size_mb:.1f} MB, schema {described['schema']}",
        f"  {described['family']}, {described['decoding']}, {described['precision']}, opset "
        f"{described['opset']}, {canvas} {width} x {height}, {defence}",
    ]
    for path, graph in described["graphs"].items():
        most = ", ".join(f"{n} {name}" for name, n in list(graph["operators"].items())[:6])
        count = sum(graph["operators"].values())
        lines.append(
            f"  {path}: {graph['role']}, {graph['bytes'] / 1e6:.2f} MB, {count} nodes: {most}"
        )
        for side in ("inputs", "outputs"):
            shown = [f"{name} {shape}" for name, shape in list(graph[side].items())[:3]]
            more = len(graph[side]) - len(shown)
            lines.append(f"    {side}: {'; '.join(shown)}{f'; {more} more' * bool(more)}")
    parity = described["parity"]
    if parity:
        line = (
            f"  parity: {parity['captions_equal']:.0%} of {parity['captions']} captions and "
            f"{parity['tokens_equal']:.1%} of tokens as in PyTorch"
        )
        if "cider_d" in parity:  # bundles of before it was measured have none
            line += f"; CIDEr-D {parity['cider_d']:.2f} of {parity['cider_d_pytorch']:.2f}"
        lines.append(line)
    versions = described["provenance"].get("versions", {})
    if versions:
        lines.append("  made with " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    if "reference" in described:
        lines += ["  reference captioner:", *_told(described["reference"], indent + "  ")]
    return [indent + line for line in lines]


CHECKUP: Final = (inspect, verify, doctor)
