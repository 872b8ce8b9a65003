"""One entry of the corpus: a text file that says what was sent, and what is to be found in it. Written here, read by
tests/unit/sniff/corpus.h, which knows the same words."""
import pathlib
import textwrap

HERE = pathlib.Path(__file__).resolve().parent


def write(name, about, pieces, *, kind="stream", outcome="found", protocol="none", host="", alpn="", ech=False, doubt="none"):
    """`pieces`: the bytes of a stream, or one for each datagram. `about`: the line that says where they come from."""
    lines = [f"# {about}", f"kind {kind}", f"outcome {outcome}", f"protocol {protocol}"]
    if host:
        lines.append(f"name {host}")
    if alpn:
        lines.append(f"alpn {alpn}")
    if ech:
        lines.append("ech yes")
    if doubt != "none":
        lines.append(f"doubt {doubt}")
    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
        lines += ["bytes", *textwrap.wrap(piece.hex(), 128)]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {sum(map(len, [pieces] if isinstance(pieces, bytes) else pieces))} bytes")
