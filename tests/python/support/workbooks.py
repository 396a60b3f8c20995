"""Files in formats that nothing here writes otherwise."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zipfile
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DATE_STYLE = 1


def workbook(**sheets: Sequence[Sequence[object]]) -> bytes:
    """Return an .xlsx with these sheets; text that looks like a serial day ("day:42349") becomes a date, and a
    cell that is written as XML ("<c><v>1</v></c>") gets its place."""
    names = list(sheets)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets>'
        + "".join(f'<sheet name="{n}" sheetId="{i}" r:id="s{i}"/>' for i, n in enumerate(names, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        + "".join(
            f'<Relationship Id="s{i}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>'
            for i, _ in enumerate(names, 1)
        )
        + f'<Relationship Id="st" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{SHEET}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
        '<xf numFmtId="46"/></cellXfs></styleSheet>',
    }
    for index, name in enumerate(names, 1):
        lines = "".join(
            f'<row r="{r}">{"".join(_cell(c, r, value) for c, value in enumerate(row))}</row>'
            for r, row in enumerate(sheets[name], 1)
        )
        parts[f"xl/worksheets/sheet{index}.xml"] = (
            f'<worksheet xmlns="{SHEET}"><sheetData>{lines}</sheetData></worksheet>'
        )
    return archive(**{name: content.encode() for name, content in parts.items()})


def _cell(column: int, row: int, value: object) -> str:
    place = f'r="{chr(65 + column)}{row}"'
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith("<"):
        return value.replace("<c", f"<c {place}", 1)
    if isinstance(value, str) and value.startswith("day:"):
        return f'<c {place} s="{DATE_STYLE}"><v>{value[4:]}</v></c>'
    if isinstance(value, str):
        return f'<c {place} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f"<c {place}><v>{value}</v></c>"


def open_document(*rows: str) -> bytes:
    """Return an .ods with a sheet A of these rows, each written as XML."""
    spaces = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    calc = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"
    content = (
        f'<office:document-content{spaces} xmlns:calcext="{calc}"><office:body>'
        f'<office:spreadsheet><table:table table:name="A">{"".join(rows)}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = b'<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    return archive(**{"mimetype": kind.encode(), "META-INF/manifest.xml": manifest, "content.xml": content.encode()})


OLD = (
    r"""ABzY8000000t4+>O=uHA6#m{O+x*z3Nlk@T4547v*o%1a(ylFNPnPOM5kXUvLupARh@c0p)*J=Flj5b&i<hbwf2d-;c@Qdk5CkF7"""
    r"""qbEVZL!0%@+gVLx4-IIrWxg=q%)WUu^LE~wm)(7{lqk<W?5>~=0|=n%M$l3tBQ6pDA`b3%UDfpKFc;TgLm?7oN4D5lXnP$}K2-j$"""
    r"""z`}#zOJ?8`ms2>0k*PvH-9!wD4Ovn)^iz;y&%#|UF?5Mt9l~dYw+i1E-DkoFMRG&9pLNT05=+iV=75gl6IPG(#h3|?Wy}YW>_aDB"""
    r"""sW`rJlRRA;gT?Xe<p0@`3btYn?7885Az#c+mXTx^&f&Y82EO@cbun$^&6N{a{$sT~w1)ha6$GZ?o*@;8B~Gu40nfpM>f(j%T?{QF"""
    r"""A>paZc#gy1LR95rIlu8$=eJFwx|KPHc4>Qq<D8+F?|prHWNg$qEs|-;*<NPfsZ4>3t7-%fj!92YSm|bj_X=N=S+`5OTR6!P$#w5&"""
    r"""r*0gc5uNMO+so_h7rb+J)wFkWyY%JglT_)mvxnRB!<9?P`S;E&did^hJYM}~&_{iA=eELA$FE7}fRDmmf8>L(71y@A`tPe9D~L)n"""
    r"""A?#hL-65?{b^4dBsK^qsueKEydlCqd(ze#nwnRHBp4g%HUOWm{D~6CFq_|&A5vZHuIp0)3rickIY*7XdSRHtzX6D598_jS({o;-4"""
    r"""eyZ7B<v`E<8InE4T6=0>U|?WiU|_JRLHg-Fpr7?^{SX<_-*r~FRLy6SO^aig;@^3GEj@$+*F{`xD1NrVCVwtk=NSKcp~7)qy@&~n"""
    r"""i5(LS$1lGGQ0@J!dtm(U9ic|ouQp=mKVJVQA@62F02TlM"""
)
"""A .xls that xlwt wrote: sheet A has id and v, then 1 and #DIV/0!, 2 and a formula, 3 and 7.5; sheet B has #N/A."""


SERIALS = (
    r"""ABzY8000000t4+>O=uHA6#izjo1dl4pJ|~LN+?*hmV$Wk(rzo&o)W4Te-O1bIh0B&K?FT$wdN#(;7RSJP!C?}&%qy5(3=OPq6a|`5<Pl"""
    r"""Staxa%zInTA(-@%vEmr1R=FRMz@6DUpc{8)SujXRK={v0@RG}9>l<g4w6*@sF<lRI;^|mdGULK@mE37Gmf;5qS1CJVC1mqmb`7S}jZT%"""
    r"""TZ-~*+DIF9sqE}L9M?BG5O3)zPrk^)nt38RI36=!*r<vNzPnE9AxA8RhL>>+MZ9Kf8F?%eK1@jk7c>%x%j-e;S4tl5etJeN^?_Ofue2K"""
    r"""w`(!^hTGMVsD$8PJ3dW^>uRypP}pOkiN3JC*9*PbeZmlRblZI|+RCR`t`Q(yy*wfb`#&>jS^h2Wb+k^;a|<n1FqR7fFFO=y{(L3;hd-a"""
    r"""a6l$G($mh(v+JxFZ$@RMc>Gap@C!u5iUE%QS!QQ^YiP}$dGlIH50tiJIBEW=^ZxCNeeO#a}77j+)kETSf1xr*K@g*WrE_B@{XY<x3FuH"""
    r"""ITyILgZyk`ys<V`ls8ei@M-shw!%kiGnHotOQ#dFZ>?#x)95o~FRw{-i7s*Ns>DOf%Z0mjyl2_+%Qh0!qHf=9_sol6Q7#-pjHPoYpN??"""
    r"""(qKf~7d<f?Id8_)ue96>mFg0eH%)EHWWBO_^eas9qQy#evQ?J3)nHgv1x1ZjPD&`r@WL*r+Bz-h@2ITX(J9RzxGLr6-HvSr|FOA9@Tdx"""
    r"""+!Jvk8CdY52AK|w)5K|w)5;h%$WU)1HxrF?BP+|Pl4`(I~~Qd#{b`ERiY<8+;%kIJ3MQJ%-Cy5gr9hVa@FE41<c7fS3U?|F=2g!?g8cl"""
    r"""^=^l&BofiVdTGZVA=vzg$m0|FZudz9eMJ02TlM"""
)
"""Another one: A has id and v, then 1 and 60, 2 and 60.5, 3 and -1, 4 and 61, 5 and 60.123456789, 60 and 60; v is days,
and so is the last id."""


def old_workbook(packed: str = OLD) -> bytes:
    """Return an .xls."""
    return gzip.decompress(base64.b85decode(packed))


def binary_workbook(*cells: tuple[int, bytes]) -> bytes:
    """Return an .xlsb with a sheet A whose rows have one cell each, a record of its kind and content, below "id"."""

    def record(kind: int, body: bytes = b"") -> bytes:
        number = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
        return number + bytes([len(body)]) + body

    def string(text: str) -> bytes:
        return struct.pack("<I", len(text)) + text.encode("utf-16-le")

    def row(number: int, kind: int, body: bytes) -> bytes:
        return record(0, struct.pack("<I", number) + bytes(13)) + record(kind, bytes(8) + body)

    sheet = record(129) + record(148, struct.pack("<4I", 0, len(cells), 0, 0)) + record(145)
    sheet += row(0, 6, string("id")) + b"".join(row(number, *cell) for number, cell in enumerate(cells, 1))
    sheet += record(146) + record(130)
    book = record(131) + record(153, bytes(12)) + record(143)
    book += record(156, struct.pack("<II", 0, 1) + string("s1") + string("A")) + record(144) + record(132)
    relations = f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="s1" Type="{OFFICE}/worksheet"'
    return archive(
        **{
            "xl/workbook.bin": book,
            "xl/_rels/workbook.bin.rels": f'{relations} Target="worksheets/sheet1.bin"/></Relationships>'.encode(),
            "xl/worksheets/sheet1.bin": sheet,
        }
    )


def archive(**members: bytes) -> bytes:
    """Return a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in members.items():
            packed.writestr(name, body)
    return content.getvalue()
