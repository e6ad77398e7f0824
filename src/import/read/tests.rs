#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::import::RowKey;

fn manifest(more: &str) -> Manifest {
    let text = format!(
        "name = \"r\"\nsupplier = \"s\"\nlegal_basis = \"consent\"\npurpose = [\"profile\"]\n\
         key = {{ kind = \"postal_code\", column = \"nr\" }}\nvalid_until = \"2027-11-01\"\n{more}\n\
         [column.typ]\nattribute = \"housing_type\"\nvalues = {{ \"småhus\" = \"house\" }}\n\
         [column.kr]\nattribute = \"income\"\n[column.age]\nattribute = \"age_band\"\n"
    );
    Manifest::parse(&text, "2026-11-27".parse().unwrap(), &[]).unwrap()
}

/// Reads a file; of each row the line, and the key with its values or the column with the reason.
fn read(manifest: &Manifest, bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
    let users = UserKeyring::new(&[]);
    let file = io::Cursor::new(bytes.to_vec());
    let mut rows = FileRows::open(file, manifest, &users).map_err(|error| error.to_string())?;
    let mut read = Vec::new();
    while let Some(row) = rows.next_row().map_err(|error| error.to_string())? {
        let text = match row.checked {
            Ok(CheckedRow {
                key: RowKey::Area(area),
                values,
                ..
            }) => {
                let values: Vec<&str> =
                    values.iter().map(|v| v.as_deref().unwrap_or("-")).collect();
                format!("{area} {}", values.join(" "))
            }
            Ok(row) => panic!("{row:?}"),
            Err(reject) => format!("{}: {}", reject.column, reject.reason),
        };
        read.push((row.line, text));
    }
    Ok(read)
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn rows_are_the_same_however_the_file_is_written() {
    let expected = vec![
        (2, "11122 house 1000.5 25_34".to_owned()),
        (3, "11123 - - -".to_owned()),
        (4, "11124 house -7 -".to_owned()),
    ];
    let comma = "nr,typ,kr,age,other\n111 22,småhus,1000.5,25_34,x\n11123,,,,\n\"11124\",\"småhus\",-7.0,,\"a,\"\"b\"\n";
    let plain = manifest("");
    assert_eq!(read(&plain, comma.as_bytes()).unwrap(), expected);
    assert_eq!(
        read(&plain, format!("\u{feff}{comma}").as_bytes()).unwrap(),
        expected
    );
    assert_eq!(
        read(&plain, comma.replace('\n', "\r\n").as_bytes()).unwrap(),
        expected
    );
    assert_eq!(read(&plain, &pack(comma.as_bytes())).unwrap(), expected);
    let (first, last) = comma.as_bytes().split_at(40);
    assert_eq!(
        read(&plain, &[pack(first), pack(last)].concat()).unwrap(),
        expected
    );
    let swedish = "age;kr;typ;nr\r\n25_34;1 000,5;sm\u{e5}hus;111 22\r\n;;;11123\r\n;-7;sm\u{e5}hus;11124\r\n";
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(swedish);
    let written = manifest("delimiter = \";\"\nencoding = \"windows-1252\"\ndecimal = \",\"");
    assert_eq!(read(&written, &bytes).unwrap(), expected);
    let json = "{\"nr\":\"11122\",\"typ\":\"småhus\",\"kr\":1000.5,\"age\":\"25_34\",\"other\":{}}\n\n\
                {\"nr\":11123,\"typ\":null}\r\n{\"nr\":\"111 24\",\"typ\":\"småhus\",\"kr\":\"-7\"}";
    let lines: Vec<u64> = vec![1, 3, 4];
    let ndjson = manifest("format = \"ndjson\"");
    let rows = read(&ndjson, json.as_bytes()).unwrap();
    let marked = format!("\u{feff}{json}");
    assert_eq!(read(&ndjson, marked.as_bytes()).unwrap(), rows);
    let texts = |rows: &[(u64, String)]| {
        rows.iter()
            .map(|(_, text)| text.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&rows), texts(&expected));
    assert_eq!(
        rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
        lines
    );
}

#[test]
fn each_wrong_row_is_rejected_alone_and_its_reason_holds_nothing_of_it() {
    let rows = [
        (
            "11122,villa,1,",
            "typ: a value that the manifest does not name",
        ),
        (",småhus,1,", "nr: the key is empty"),
        (
            "1112,småhus,1,",
            "nr: no postal code: five digits would be right",
        ),
        (
            "1112x,småhus,1,",
            "nr: no postal code: five digits would be right",
        ),
        (
            "11122,småhus,1,5,",
            ": not as many values as the header has columns",
        ),
        ("11122", ": not as many values as the header has columns"),
        (
            "11122,,0x1,",
            "kr: no number: digits, and decimals as the manifest says, would be right",
        ),
        (
            "11122,,1e3,",
            "kr: no number: digits, and decimals as the manifest says, would be right",
        ),
        (
            "11122,,\"1,5\",",
            "kr: no number: digits, and decimals as the manifest says, would be right",
        ),
        (
            "11122,,NaN,",
            "kr: no number: digits, and decimals as the manifest says, would be right",
        ),
        (
            "11122,,,under_18",
            "age: a child, and import.classes does not allow minor",
        ),
        ("11122,,5,25_34", "11122 - 5 25_34"),
    ];
    let text: String = rows.iter().map(|(row, _)| format!("{row}\n")).collect();
    let read_rows = read(&manifest(""), format!("nr,typ,kr,age\n{text}").as_bytes()).unwrap();
    let said: Vec<&str> = read_rows.iter().map(|(_, text)| &**text).collect();
    let expected: Vec<&str> = rows.iter().map(|(_, said)| *said).collect();
    assert_eq!(said, expected);
    let bytes = [
        b"nr,typ,kr,age\n11122,sm\xe5hus,,\n11123,".as_slice(),
        &[b'x'; 66_000],
        b",,\n11124,,,\n",
    ]
    .concat();
    let said = read(&manifest(""), &bytes).unwrap();
    assert_eq!(said[0].1, "typ: not in the encoding of the manifest");
    assert_eq!(said[1].1, ": a row of more than 64 KiB");
    assert_eq!(said[2].1, "11124 - - -");
    let json = "[]\n{\"nr\":[1]}\n{\"nr\":\"11122\"";
    let said = read(&manifest("format = \"ndjson\""), json.as_bytes()).unwrap();
    assert_eq!(said[0].1, ": no JSON object in UTF-8");
    assert_eq!(
        said[1].1,
        "nr: a list or an object: a text or a number would be right"
    );
    assert_eq!(said[2].1, ": no JSON object in UTF-8");
}

#[test]
fn a_file_that_is_not_what_the_manifest_says_is_refused_as_a_whole() {
    for (bytes, said) in [
        (
            &b"nr;typ;kr;age\n"[..],
            "line 1: there is no column typ; is the delimiter another one?",
        ),
        (b"", "line 1: the file is empty; a header would be right"),
        (b"\n\n", "line 1: the file is empty"),
        (
            b"NR,typ,kr,age\n",
            "line 1: there is no column nr; the file has NR, typ, kr, age",
        ),
        (b"nr,typ,kr\n", "line 1: there is no column age"),
        (b"nr,typ,kr,age,kr\n", "line 1: two columns are called kr"),
        (
            b"nr,typ,kr,age,\xff\n",
            "line 1: the header is not in UTF-8",
        ),
    ] {
        let error = read(&manifest(""), bytes).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    // Half a file, and one with something behind it, in whichever way it is packed.
    let rows = b"nr,typ,kr,age\n11122,,,\n";
    for (bytes, said) in [
        ([pack(rows), b"more".to_vec()].concat(), "line "),
        ([pack(rows), pack(rows)[..9].to_vec()].concat(), "line "),
        (b"\x1f\x8b".to_vec(), "line "),
        // UTF-16, as some programs write what they call Unicode.
        (b"\xff\xfen\0r\0".to_vec(), "the header is not in UTF-8"),
        (b"sep=,\nnr,typ,kr,age\n".to_vec(), "there is no column"),
    ] {
        let error = read(&manifest(""), &bytes).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let quoted = "nr,typ,kr,age\n\"11122\",\"\",\"5\r\n\",\"\"\n11123,,\"5\n6\",\n11124,,-0.5,\n";
    let said = read(&manifest(""), quoted.as_bytes()).unwrap();
    assert_eq!(said[0], (2, "11122 - 5 -".to_owned()));
    assert!(
        said[1].0 == 4 && said[1].1.starts_with("kr: no number"),
        "{said:?}"
    );
    assert_eq!(said[2], (6, "11124 - -0.5 -".to_owned()));
    let open = [
        b"nr,typ,kr,age\n11122,\"".as_slice(),
        &vec![b'x'; 1_000_000],
    ]
    .concat();
    for bytes in [open.clone(), pack(&open)] {
        let error = read(&manifest(""), &bytes).unwrap_err();
        assert!(error.contains("is a quote not closed?"), "{error}");
    }
    let mut cut = pack(&b"nr,typ,kr,age\n11122,,,\n".repeat(1000));
    cut.truncate(cut.len() / 2);
    assert!(read(&manifest(""), &cut).unwrap_err().starts_with("line "));
    let line = vec![b'x'; 1_000_000];
    let error = read(&manifest("format = \"ndjson\""), &line).unwrap_err();
    assert!(error.contains("a row of more than 64 KiB"), "{error}");
}

#[test]
fn what_says_that_somebody_is_a_child_is_taken_where_the_configuration_allows_it() {
    let mut manifest = manifest("");
    manifest.takes_minors = true;
    let read = read(&manifest, b"nr,typ,kr,age\n11122,,,under_18\n").unwrap();
    assert_eq!(read[0].1, "11122 - - under_18");
}

#[test]
fn a_quote_that_is_not_closed_refuses_the_file_and_names_the_line_of_its_row() {
    let rows = "11122,,1,\n".repeat(900);
    let open = format!("nr,typ,kr,age\n{rows}11123,,\"h1950,\n{rows}");
    let with_crlf = open.replace('\n', "\r\n");
    let marked = format!("\u{feff}{open}");
    for bytes in [
        open.as_bytes(),
        with_crlf.as_bytes(),
        marked.as_bytes(),
        &pack(open.as_bytes()),
    ] {
        let error = read(&manifest(""), bytes).unwrap_err();
        assert_eq!(
            error,
            "line 902: a quote is not closed up to the end of the file"
        );
    }
    for (text, said) in [
        // In the header, in the last row, and in a value after one over two lines.
        ("nr,typ,kr,\"age\n11122,,,\n", "line 1: a quote is not"),
        ("nr,typ,kr,age\n11122,,,\"", "line 2: a quote is not"),
        ("nr,typ,kr,age\n\n11122,\"\n\",\"5", "line 3: a quote is"),
        ("nr,typ,kr,age\n11122,,\"5\"\",\n", "line 2: a quote is"),
        // One that the next row with a quote closes.
        (
            "nr,typ,kr,age,x\n11121,,,,\n11122,,,,\"h\n11123,,,,\"\"\n11124,,,,\"y\"\n11125,,,,\n",
            "line 3: a value in quotes goes on over the end of a line",
        ),
    ] {
        let error = read(&manifest(""), text.as_bytes()).unwrap_err();
        assert!(error.starts_with(said), "{text}: {error}");
    }
}

#[test]
fn quotes_that_are_right_or_plain_text_are_taken() {
    let text = "nr,typ,kr,age,x\n11122,,1,,5\" pipe\n11123,,2,,\"a\"\"b\"\n11124,,3,,\"a\r\n\"\"b\"\"\"\n\
                11125,,4,,\"\"\n\"11126\",,\"5\",,\"\"\"\"";
    let expected: Vec<String> = (2..7)
        .map(|at| format!("1112{at} - {} -", at - 1))
        .collect();
    for text in [text.to_owned(), format!("{text}\n"), format!("{text}\r")] {
        let rows = read(&manifest(""), text.as_bytes()).unwrap();
        let said: Vec<String> = rows.into_iter().map(|(_, said)| said).collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn a_byte_order_mark_is_taken_away_before_anything_reads_the_header() {
    let rows = vec![(2, "11122 - 5 -".to_owned())];
    let text = "\u{feff}\"nr\",\"typ\",\"kr\",\"age\"\n\"11122\",\"\",\"5\",\"\"\n";
    for bytes in [text.as_bytes(), &pack(text.as_bytes())] {
        assert_eq!(read(&manifest(""), bytes).unwrap(), rows);
    }
    let windows = manifest("encoding = \"windows-1252\"");
    let error = read(&windows, text.as_bytes()).unwrap_err();
    assert!(error.contains("begins as one in UTF-8"), "{error}");
}

#[test]
fn a_message_names_the_columns_of_a_header_and_nothing_of_a_row() {
    let many: Vec<String> = (0..40).map(|at| format!("column{at}")).collect();
    let many = format!("nr,{}\n", many.join(","));
    let error = read(&manifest(""), many.as_bytes()).unwrap_err();
    assert!(
        error.contains("the file has nr, column0, ") && error.ends_with(" and 29 more"),
        "{error}"
    );
    let without = read(&manifest(""), b"kund4711,house,1,\n").unwrap_err();
    assert!(
        without.contains("is the first line a header?") && !without.contains("4711"),
        "{without}"
    );
}

#[test]
fn a_file_of_json_without_a_row_is_refused() {
    for bytes in [&b""[..], b"\n \n", b"\xef\xbb\xbf", &pack(b"")] {
        let error = read(&manifest("format = \"ndjson\""), bytes).unwrap_err();
        assert!(error.starts_with("line 1: the file has no row"), "{error}");
    }
}

#[test]
fn numbers_of_json_keep_their_digits() {
    let mut manifest = manifest("format = \"ndjson\"");
    manifest.key = crate::import::KeyKind::Municipality;
    let json = "{\"nr\":89460123456789012345}\n{\"nr\":89460123456789012346}\n{\"nr\":1.50}\n{\"nr\":true}\n\
                {\"nr\":\"a\",\"kr\":1.5e3}\n{\"nr\":\"b\",\"typ\":true}\n{\"nr\":\"c\",\"kr\":1.5}\n\
                {\"nr\":\"\\ud800\"}\n";
    let read_rows = read(&manifest, json.as_bytes()).unwrap();
    let said: Vec<&str> = read_rows.iter().map(|(_, text)| &**text).collect();
    assert_eq!(
        said,
        [
            "89460123456789012345 - - -",
            "89460123456789012346 - - -",
            "1.50 - - -",
            "nr: true or false: a text or a number would be right",
            "a - 1500 -",
            "typ: a value that the manifest does not name",
            "c - 1.5 -",
            "nr: a text that is no Unicode: is half of an escaped pair missing?",
        ]
    );
    manifest.has_decimal_comma = true;
    let comma = read(&manifest, b"{\"nr\":1.5,\"kr\":1.5}").unwrap();
    assert_eq!(comma[0].1, "1.5 - 1.5 -");
}

#[test]
fn a_number_is_kept_digit_by_digit_or_rejected() {
    for (written, kept) in [
        ("-0", "0"),
        ("-0.0", "0"),
        ("000", "0"),
        ("007.50", "7.5"),
        ("-0.50", "-0.5"),
        ("100", "100"),
        ("355123.3333333333", "355123.3333333333"),
        ("999999999999999", "999999999999999"),
    ] {
        let text = format!("nr,typ,kr,age\n11122,,{written},\n");
        let read_rows = read(&manifest(""), text.as_bytes()).unwrap();
        assert_eq!(read_rows[0].1, format!("11122 - {kept} -"));
    }
    for written in ["300000.999999999999999", "0.1000000000000000001"] {
        let text = format!("nr,typ,kr,age\n11122,,{written},\n");
        let read_rows = read(&manifest(""), text.as_bytes()).unwrap();
        assert!(read_rows[0].1.starts_with("kr: "), "{read_rows:?}");
    }
}
