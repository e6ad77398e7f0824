//! Reads lists of domains with categories.
//!
//! | list | category | example of a line |
//! | --- | --- | --- |
//! | file `*.csv` | the second field; several with `;` between them | `dn.se,News;Politics,own` |
//! | folder with files `domains` (UT1, squidGuard) | the folder that the file lies in | `example.com` |
//! | any other file: hosts, or a domain a line | the file's name up to the first dot | `0.0.0.0 example.com` |
//!
//! Each file may be packed by gzip, which its first bytes tell. A `#` begins a comment. A line that
//! cannot be read costs itself only, and the first is named with its number and the reason. A file
//! of which no line can be read, or that is larger than a limit, is not used, and nor is its list.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::bufread::MultiGzDecoder;

use super::domain;
use super::index::{Builder, DOMAINS_MAX, Full, Index, LABELS_MAX, Label};
use super::taxonomy::Taxonomy;
use crate::enrich::source::Problem;

/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// The largest file of a list, in bytes once it is unpacked.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The longest name of a category or of a source, in bytes.
const NAME_BYTES_MAX: usize = 100;
const _: () = assert!(
    LINE_BYTES_MAX == 4096 && NAME_BYTES_MAX == 100,
    "the faults of a line have them too"
);
/// How deep the files `domains` lie in a folder, and the most of them.
const DEPTH: usize = 4;
const FILES_MAX: usize = 2_000;
/// The names of those files.
const DOMAIN_FILES: [&str; 2] = ["domains", "domains.gz"];

const NO_NAME: &str = "a category or a source is empty, or longer than 100 bytes";

/// One list, as it was read.
pub(super) struct CategoryList {
    pub(super) path: PathBuf,
    pub(super) index: Index,
    /// When the newest of its files was written, in seconds since 1970.
    pub(super) written: u64,
}

/// A list, and the files of it of which lines were skipped.
type Opened = (CategoryList, Vec<(PathBuf, Problem)>);

/// Reads a list.
pub(super) fn open(path: &Path, taxonomy: &Taxonomy) -> Result<Opened, (PathBuf, Problem)> {
    let mut reading = Reading {
        taxonomy,
        builder: Builder::default(),
        written: 0,
        skipped: Vec::new(),
    };
    if path.is_dir() {
        reading.folder(path)?;
    } else {
        let name = name_of_file(path);
        reading.file(path, &name)?;
    }
    let list = CategoryList {
        path: path.to_owned(),
        index: reading.builder.finish(),
        written: reading.written,
    };
    Ok((list, reading.skipped))
}

struct Reading<'t> {
    taxonomy: &'t Taxonomy,
    builder: Builder,
    written: u64,
    skipped: Vec<(PathBuf, Problem)>,
}

/// How the lines of a file are read.
enum Lines<'n> {
    /// `domain,category[,source]`; without a source it is this.
    Csv(&'n str),
    /// Domains of the category with this number.
    Domains(u32),
}

/// Why a line adds nothing.
enum Fault {
    Line(&'static str),
    Full,
}

impl From<Full> for Fault {
    fn from(Full: Full) -> Fault {
        Fault::Full
    }
}

impl Reading<'_> {
    /// Reads the files `domains` of a folder, each of the category that its folder is named for.
    fn folder(&mut self, folder: &Path) -> Result<(), (PathBuf, Problem)> {
        let mut files = Vec::new();
        list_files(folder, DEPTH, &mut files)
            .map_err(|error| (folder.to_owned(), Problem::from(error)))?;
        if files.is_empty() || files.len() > FILES_MAX {
            let why = format!("{} files named domains, not 1 to {FILES_MAX}", files.len());
            let error = io::Error::new(io::ErrorKind::InvalidData, why);
            return Err((folder.to_owned(), error.into()));
        }
        files.sort();
        let source = name_of_file(folder);
        for file in files {
            let inner = file
                .parent()
                .and_then(|inner| inner.strip_prefix(folder).ok());
            let category = inner
                .map(|inner| inner.to_string_lossy())
                .unwrap_or_default();
            let category = if category.is_empty() {
                &*source
            } else {
                &*category
            };
            self.domains(&file, category, &source)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str) -> Result<(), (PathBuf, Problem)> {
        let whole = path.to_string_lossy().to_ascii_lowercase();
        let is_csv = whole
            .strip_suffix(".gz")
            .unwrap_or(&whole)
            .ends_with(".csv");
        if !is_csv {
            return self.domains(path, name, name);
        }
        self.lines(path, &Lines::Csv(name))
            .map_err(|problem| (path.to_owned(), problem))
    }

    fn domains(
        &mut self,
        path: &Path,
        category: &str,
        source: &str,
    ) -> Result<(), (PathBuf, Problem)> {
        let read = match self.label(category, source) {
            Ok(label) => self.lines(path, &Lines::Domains(label)),
            Err(Fault::Line(why)) => Err(io::Error::new(io::ErrorKind::InvalidData, why).into()),
            Err(Fault::Full) => Err(too_large()),
        };
        read.map_err(|problem| (path.to_owned(), problem))
    }

    fn label(&mut self, category: &str, source: &str) -> Result<u32, Fault> {
        let [category, source] = [self.taxonomy.name(category.trim()), source.trim()];
        let is_name = |name: &str| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)
        };
        if !is_name(category) || !is_name(source) {
            return Err(Fault::Line(NO_NAME));
        }
        Ok(self.builder.label(Label {
            category: category.to_owned(),
            source: source.to_owned(),
        })?)
    }

    fn lines(&mut self, path: &Path, how: &Lines<'_>) -> Result<(), Problem> {
        let file = File::open(path)?;
        let written = file.metadata()?.modified().ok();
        let written = written.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        self.written = self.written.max(written.unwrap_or_default().as_secs());
        let mut reader = unpack(file)?.take(FILE_BYTES_MAX + 1);
        let (mut line, mut number, mut total, mut skipped) = (Vec::new(), 0_u64, 0_u64, 0_u64);
        let mut first = None;
        while let Some(is_whole) = next_line(&mut reader, &mut line)? {
            if reader.limit() == 0 {
                return Err(too_large());
            }
            number += 1;
            let read = match std::str::from_utf8(&line) {
                _ if !is_whole => Err(Fault::Line("longer than 4096 bytes")),
                Ok(text) => self.line(text, number, how),
                Err(_) => Err(Fault::Line("not UTF-8")),
            };
            match read {
                Ok(is_entry) => total += u64::from(is_entry),
                Err(Fault::Line(why)) => {
                    total += 1;
                    skipped += 1;
                    first.get_or_insert((number, why));
                }
                Err(Fault::Full) => return Err(too_large()),
            }
        }
        let Some((line, why)) = first else {
            return Ok(());
        };
        let problem = Problem::Lines {
            skipped,
            total,
            line,
            why: why.into(),
        };
        if skipped == total {
            return Err(problem);
        }
        self.skipped.push((path.to_owned(), problem));
        Ok(())
    }

    /// Reads a line; returns whether it is more than a comment.
    fn line(&mut self, line: &str, number: u64, how: &Lines<'_>) -> Result<bool, Fault> {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(false);
        }
        match how {
            Lines::Csv(source) => self.csv(line, number, source),
            Lines::Domains(label) => self.hosts(line, *label),
        }
    }

    fn csv(&mut self, line: &str, number: u64, source: &str) -> Result<bool, Fault> {
        let fields = fields(line).ok_or(Fault::Line("a quoted field does not end, or goes on"))?;
        let (domain, categories, source) = match fields.as_slice() {
            [domain, categories] => (domain, categories, source),
            [domain, categories, own] if own.trim().is_empty() => (domain, categories, source),
            [domain, categories, own] => (domain, categories, own.as_str()),
            _ => return Err(Fault::Line("not domain,category or domain,category,source")),
        };
        if number == 1 && domain.trim().eq_ignore_ascii_case("domain") {
            return Ok(false);
        }
        let domain = entry(domain)?;
        let labels: Result<Vec<u32>, Fault> = categories
            .split(';')
            .map(|category| self.label(category, source))
            .collect();
        for label in labels? {
            // An address has no domain, so no page is ever looked up by it.
            if let Some(domain) = &domain {
                self.builder.add(domain, label)?;
            }
        }
        Ok(true)
    }

    /// Reads a line of a hosts file, an address and its names, or a domain.
    fn hosts(&mut self, line: &str, label: u32) -> Result<bool, Fault> {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let mut first = words.next();
        let is_hosts = first.is_some_and(|word| word.parse::<IpAddr>().is_ok());
        if is_hosts {
            let names = words.clone().count();
            if names > 0 {
                first = None;
            }
        } else if words.next().is_some() {
            return Err(Fault::Line(
                "more than one word, of which the first is no address",
            ));
        }
        for word in first.into_iter().chain(words) {
            // Hosts files name localhost and its like, which are no domains.
            if is_hosts && !word.contains('.') {
                continue;
            }
            if let Some(domain) = entry(word)? {
                self.builder.add(&domain, label)?;
            }
        }
        Ok(true)
    }
}

/// Returns the domain that an entry names, with what is below it; `None` for an address.
fn entry(text: &str) -> Result<Option<String>, Fault> {
    const NO_DOMAIN: Fault = Fault::Line("not a domain");
    let text = text.trim();
    if text.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let text = text.strip_prefix("*.").unwrap_or(text);
    let text = text.strip_prefix('.').unwrap_or(text);
    let name = domain::name(text).ok_or(NO_DOMAIN)?;
    match name.contains('.') {
        true => Ok(Some(name)),
        false => Err(NO_DOMAIN),
    }
}

/// Returns the fields of a line of CSV; `None` where quotes do not match.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.trim_start().strip_prefix('"') {
            None => match rest.split_once(',') {
                Some((field, after)) => (field.trim().to_owned(), Some(after)),
                None => (rest.trim().to_owned(), None),
            },
            Some(quoted) => unquote(quoted)?,
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Some(fields),
        }
    }
}

/// Returns a quoted field, whose first quote is gone, and what comes after its comma.
fn unquote(quoted: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
            continue;
        }
        let after = after.trim_start();
        return match after.strip_prefix(',') {
            Some(after) => Some((field, Some(after))),
            None => after.is_empty().then_some((field, None)),
        };
    }
}

/// Returns a file unpacked, if it begins as gzip does.
fn unpack(file: File) -> io::Result<BufReader<Box<dyn Read>>> {
    let mut reader = BufReader::new(file);
    let is_packed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let inner: Box<dyn Read> = match is_packed {
        true => Box::new(MultiGzDecoder::new(reader)),
        false => Box::new(reader),
    };
    Ok(BufReader::new(inner))
}

/// Reads the next line without its end; returns whether it is there whole, `None` at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut is_whole, mut is_there) = (true, false);
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(is_there.then_some(is_whole));
        }
        is_there = true;
        let end = memchr::memchr(b'\n', piece);
        let taken = end.unwrap_or(piece.len());
        let room = LINE_BYTES_MAX - line.len();
        is_whole &= taken <= room;
        line.extend(piece.iter().take(taken.min(room)));
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(is_whole));
        }
    }
}

/// Lists the files `domains` down to a depth.
fn list_files(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if depth > 1 {
                list_files(&path, depth - 1, files)?;
            }
        } else if files.len() <= FILES_MAX && DOMAIN_FILES.iter().any(|name| path.ends_with(name)) {
            files.push(path);
        }
    }
    Ok(())
}

/// Returns the name of a file up to its first dot.
fn name_of_file(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn too_large() -> Problem {
    Problem::TooLarge {
        bytes: FILE_BYTES_MAX,
        domains: DOMAINS_MAX,
        categories: LABELS_MAX,
    }
}
