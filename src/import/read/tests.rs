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
        (b"", "there is no column"),
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
