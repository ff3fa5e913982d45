"""Tables of items, from the formats that people have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nbflow.errors import ParameterError, RefusedError, TargetError
from nbflow.loading.tables import ABSENT, Table, read_table


@pytest.fixture
def read(tmp_path: Path):
    """Write a table and read it."""

    def write_and_read(content: str | bytes, name: str = "cities.csv") -> Table:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_table(path)

    return write_and_read


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_is_read_whatever_its_separator_bom_and_newlines(read, separator, bom, newline):
    """What Excel writes in any country."""
    lines = [separator.join(row) for row in (("city", "lat"), ("Oslo", "59.9"), ("Lima", "NA"))]
    table = read(bom + newline.join(lines).encode())
    assert table.columns == {"city": ["Oslo", "Lima"], "lat": ["59.9", "NA"]}
    assert table.lines == [2, 3]
    assert table.text
    assert (separator == ";") == table.comma


def test_an_empty_cell_is_absent_and_quotes_hold_anything(read):
    """Separators, quotes and line ends inside of quotes; rows keep the line where they begin."""
    table = read('city,note,lat\n"New York, NY","two\nlines",\n\nOslo, "a ""b""; c", 1\n  ,x,2\n')
    assert (table.columns) == {
        "city": ["New York, NY", "Oslo", ABSENT],
        "note": ["two\nlines", 'a "b"; c', "x"],
        "lat": [ABSENT, "1", "2"],
    }
    assert table.lines == [2, 5, 6]
    assert table.place(1).endswith("cities.csv:5")


@pytest.mark.parametrize("blank", ["  ", "\t", " \r"])
def test_a_line_of_blanks_is_no_row(read, blank):
    """As an empty line; an empty cell is written with quotes where it is the only one."""
    table = read(f'{blank}\ncity\nOslo\n{blank}\n""\n"  "\n"\n"\nLima\n{blank}')
    assert ["Oslo", ABSENT, ABSENT, ABSENT, "Lima"] == table.columns["city"]
    assert [3, 5, 6, 7, 9] == table.lines
    assert {"a": ["1"], "b": ["2"]} == read(f"a,b\n{blank}\n1,2\n{blank}").columns


def test_separators_inside_of_a_quoted_header_do_not_count(read):
    """The header decides, outside of quotes; decimal commas in rows do not."""
    assert list(read('"a,b,c";lat\n1;2,5\n').columns) == ["a,b,c", "lat"]
    assert list(read("a\nx\n").columns) == ["a"]


def test_a_tsv_is_separated_by_tabs_only(read):
    """Commas in its header are text."""
    assert read("a,b,c\td\n1\t2\n", "t.tsv").columns == {"a,b,c": ["1"], "d": ["2"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '[\n {"city": "Oslo", "lat": 59.9},\n\n {"city": null, "lat": [1]}\n]\n'),
        ("c.jsonl", '\n{"city": "Oslo", "lat": 59.9}\n\n{"city": null, "lat": [1]}\n'),
        ("c.yml", "# x\n- {city: Oslo, lat: 59.9}\n\n- {city: null, lat: [1]}\n"),
    ],
)
def test_lists_of_mappings_have_values_and_lines(read, name, content):
    """A null is a value."""
    table = read(content, name)
    assert table.columns == {"city": ["Oslo", None], "lat": [59.9, [1]]}
    assert table.lines == [2, 4]
    assert not table.text


def test_a_key_that_an_item_lacks_is_absent(read):
    """As an empty cell of a CSV."""
    assert read('[{"a": 1}, {"b": 2}]', "c.json").columns == {"a": [1, ABSENT], "b": [ABSENT, 2]}


@pytest.mark.parametrize(("name", "content"), [("c.json", "[]"), ("c.jsonl", "\n"), ("c.yaml", "[]\n")])
def test_an_empty_list_is_a_table_without_rows(read, name, content):
    """It completes with no items."""
    table = read(content, name)
    assert (table.columns, table.lines) == ({}, [])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.csv", "", "c.csv is empty"),
        ("c.csv", "city,lat\n", "a header (city, lat) and no rows"),
        ("c.csv", "a,b\n1,2\n1,2,3\n", "c.csv:3: this row has 3 cells, and the header 2 columns"),
        ("c.csv", "a,b\n1,2\n1\n", "c.csv:3: this row has 1 cell, and"),
        ("c.csv", "a,b,a\n1,2,3\n", "c.csv:1: the columns 1 and 3 are both called 'a'"),
        ("c.csv", ",a\n0,1\n", "c.csv:1: column 1 of 2 has no name"),
        ("c.csv", 'a,b\n1,2\n"x,2\n3,4\n', "c.csv:3: this row cannot be read"),
        ("c.csv", 'a,b\n"x"y,2\n', "c.csv:2: this row cannot be read"),
        ("c.csv", b"a,b\nx,1\nTroms\xf8,2\n", "c.csv:3: byte 0xf8 is not UTF-8"),
        ("c.json", '{"a": [1]}', "c.json is no list"),
        ("c.json", '[{"a": 1},\n{"a": ]', "c.json:2: this is not JSON"),
        ("c.json", '[{"a": 1}\n{"a": 1}]', "c.json:2: this is not JSON"),
        ("c.json", "[\n{}] x", "c.json:2: this is not JSON"),
        ("c.json", "[\n{}", "c.json:2: this is not JSON"),
        ("c.json", "", "c.json:1: this is not JSON"),
        ("c.json", '[\n\n{"a": 1, "a": 2}]', "c.json:3: this is not JSON (the key 'a' stands twice)"),
        ("c.json", '[\n{"a": 1e999}]', "c.json:2: this is not JSON (the number 1e999 is larger than any float"),
        ("c.json", '[\n{"a": -1e999}]', "c.json:2: this is not JSON (the number -1e999 is larger than any float"),
        ("c.json", '[\n{"a": ' + "9" * 5000 + "}]", "c.json:2: this is not JSON (the number 9999999999999999999…"),
        ("c.jsonl", '{"a": 1}\n{"a": 1e999}', "c.jsonl:2: this is not JSON (the number 1e999 is larger than any float"),
        ("c.json", '[\n"Oslo"]', "c.json:2: this item is 'Oslo', not a mapping"),
        ("c.json", "[" * 100_000, "nested too deep"),
        ("c.jsonl", '{"a": 1}\n{"a": \n', "c.jsonl:2: this is not JSON"),
        ("c.yml", "a: 1\n", "c.yml is no list"),
        ("c.yml", "- a: 1\n- Oslo\n", "c.yml:2: this item is 'Oslo'"),
        ("c.yml", "- a: 1\n  a: 2\n", "c.yml:2: the key 'a' stands twice"),
        ("c.xlsx", "x", "no kind of table that nbflow reads (.xlsx)"),
    ],
)
def test_what_is_no_table_is_refused(read, name, content, says):
    """With place, value and remedy, in one line."""
    with pytest.raises(RefusedError) as caught:
        read(content, name)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


def test_the_remedy_for_another_encoding_converts_the_file(read, tmp_path):
    """The command of the message is run as it stands."""
    for encoding in ("cp1252", "utf-16"):
        with pytest.raises(ParameterError) as caught:
            read("city,lat\nTromsø,2\n".encode(encoding), f"my {encoding}.csv")
        subprocess.run(caught.value.remedy.splitlines()[-1], shell=True, check=True)
        assert read_table(tmp_path / f"my {encoding}-utf8.csv").columns["city"] == ["Tromsø"]


def test_a_missing_table_is_refused_with_the_near_one(read, tmp_path):
    """Also before its ending is looked at."""
    read("a\n1\n")
    for name in ("citys.csv", "cities.cvs", "cities"):
        with pytest.raises(TargetError, match=r"Did you mean 'cities.csv'\?"):
            read_table(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TargetError, match="cannot be read"):
        read_table(tmp_path / "folder.csv")


def test_an_unreadable_table_is_refused(nobodys_folder):
    """With the system's reason."""
    table = nobodys_folder / "cities.csv"
    table.write_text("a\n1\n")
    assert [1] == [len(read_table(table).columns)]
    table.chmod(0)
    with pytest.raises(TargetError, match="Permission denied"):
        read_table(table)
