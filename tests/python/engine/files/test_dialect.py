"""How a delimited text is written: RFC 4180 first, and a header is known by what stands below it."""

from __future__ import annotations

import pytest

from granary.readers.files.dialect import detect
from granary.readers.files.formats import Csv


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("region,2023,2024\nnorth,12.5,13\nsouth,7,8\n", True),
        ("north,2023,2024\nsouth,2021,2022\neast,2019,2020\n", False),  # years over years
        ("id,answer,answer\n1,blue,red\n2,red,red\n", True),
        ("answer,answer\nblue,red\nred,blue\n", True),
        ("blue,red\nred,blue\nblue,blue\n", False),  # words that come again below are values
        ("region,1,2,3\na,5,8,7\nb,8,2,1\n", True),
        ("a,1,2,3\nb,4,5,6\nc,7,8,9\n", False),
        ("a,1,2\nb,5,9\n", False),
        ("day,1,2\n2024-01-01,5,6\n2024-01-02,8,9\n", True),  # a word over dates
        ("id,name\n1,Ada\n2,Ben\n", True),
        ("1,Ada\n2,Ben\n", False),
        ("id,name\n", True),
        ("name,city\nAda,Rome\nBen,Oslo\n", True),
        ("NA,5\n1,6\n2,7\n", False),  # what stands for no value is not a name
        ("2024-01,2024-02\n5.5,6.5\n7.5,8.5\n", True),
        ("a,b\n1,x\na,b\n2,y\n", True),  # parts put together, each with its header
        ("$5.00,x\n$6.00,y\n", False),
        ("09:30,x\n10:30,y\n", False),
    ],
)
def test_a_header_is_known_by_what_stands_below_it(text: str, expected: bool) -> None:
    assert detect(text.encode(), Csv(delimiter=",")).header is expected


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ('id,path,owner\n1,"C:\\team","ops"\n2,"D:\\archive\\","audit"\n', ""),
        ('id,word\n1,"say \\"hi\\", he said"\n2,"no"\n', "\\"),
        ('id,word\n1,"a ""quoted"" word"\n', ""),
        ('id;path\n1;"D:\\x\\"\n2;"E:\\"\n', ""),
        ("id,path\n1,D:\\x\\\n", ""),
        ('a,b\n"x\\"",1\n"y",2\n', "\\"),
    ],
)
def test_a_backslash_belongs_to_its_value_where_the_text_can_be_read_so(text: str, escape: str) -> None:
    assert detect(text.encode(), Csv()).escape == escape
