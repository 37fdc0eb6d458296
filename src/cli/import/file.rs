//! Stock files: CSV with a header, plain or gzipped, as `tidegate import-stock` reads them. Each
//! line of the text is one record, so that one bad line never swallows the next. It checks what a
//! line says by itself; whether the store agrees is not known here.

use std::{
    fs::File,
    hash::Hasher,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use flate2::bufread::MultiGzDecoder;
use siphasher::sip128::{Hasher128, SipHasher13};
use tidegate::{Currency, Location, Sku, SkuPatch, bounds};

/// All columns; the first two are required.
const COLUMNS: [&str; 8] = [
    "sku",
    "delta",
    "location",
    "price_minor",
    "currency",
    "limit_per_user",
    "backorder_limit",
    "reason",
];

/// No line is longer; what is, is bad and skipped without being kept.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Why stock is moved, for a line that does not say.
const REASON_DEFAULT: &str = "import";

/// One line that can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StockLine {
    pub(super) number: u64,
    pub(super) sku: Sku,
    pub(super) delta: i64,
    pub(super) location: Location,
    pub(super) options: SkuPatch,
    pub(super) reason: String,
}

/// One line that can't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) number: u64,
    pub(super) what: String,
}

/// Why a file can't be read at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("can't read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}, line 1: {what}", path.display())]
    Header { path: PathBuf, what: String },
}

/// A whole file, read once before anything of it is applied: so a broken archive changes nothing.
pub(super) struct Survey {
    /// Lines that are not blank, without the header.
    pub(super) lines: u64,
    /// Follows from the content: the same for a file and its gzipped copy.
    pub(super) fingerprint: String,
}

impl Survey {
    pub(super) fn of(path: &Path) -> Result<Self, FileError> {
        let mut file = StockFile::open(path)?;
        let mut hasher = SipHasher13::new();
        hasher.write(&file.line);
        let mut lines = 0;
        while file.next_text()? {
            hasher.write(&file.line);
            hasher.write_u8(b'\n');
            lines += 1;
        }
        let fingerprint = format!("{:032x}", hasher.finish128().as_u128());
        Ok(Self { lines, fingerprint })
    }
}

/// Reads a stock file line by line.
pub(super) struct StockFile {
    path: PathBuf,
    bytes: Box<dyn BufRead + Send>,
    /// Where each of [`COLUMNS`] is in a line.
    places: [Option<usize>; COLUMNS.len()],
    /// How many columns the header has.
    width: usize,
    number: u64,
    /// The present line, without its end; cut at [`LINE_BYTES_MAX`].
    line: Vec<u8>,
    too_long: bool,
}

impl StockFile {
    /// Opens `path`; gzip is told by its first bytes, whatever the name.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let fail = |source| FileError::Io { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(fail)?);
        let gzipped = file.fill_buf().map_err(fail)?.starts_with(&[0x1f, 0x8b]);
        let bytes: Box<dyn BufRead + Send> = if gzipped {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Self::read(path, bytes)
    }

    fn read(path: &Path, bytes: Box<dyn BufRead + Send>) -> Result<Self, FileError> {
        let mut file = Self {
            path: path.to_owned(),
            bytes,
            places: [None; COLUMNS.len()],
            width: 0,
            number: 0,
            line: Vec::new(),
            too_long: false,
        };
        let any = file.next_text()?;
        if file.line.starts_with(b"\xef\xbb\xbf") {
            file.line.drain(..3);
        }
        let header = if any { file.fields() } else { Err("the file is empty".to_owned()) };
        let places = header.and_then(|header| {
            file.width = header.len();
            places(&header)
        });
        let header = |what| FileError::Header { path: path.to_owned(), what };
        file.places = places.map_err(header)?;
        Ok(file)
    }

    /// Reads the next line that is not blank into `line`; `false` at the end.
    fn next_text(&mut self) -> Result<bool, FileError> {
        loop {
            self.line.clear();
            let fail = |source| FileError::Io { path: self.path.clone(), source };
            let mut part = self.bytes.by_ref().take(LINE_BYTES_MAX as u64 + 1);
            let read = part.read_until(b'\n', &mut self.line).map_err(fail)?;
            if read == 0 {
                return Ok(false);
            }
            self.number += 1;
            self.too_long = read > LINE_BYTES_MAX && !self.line.ends_with(b"\n");
            if self.too_long {
                self.bytes.skip_until(b'\n').map_err(fail)?;
            }
            while self.line.last().is_some_and(|last| b"\r\n".contains(last)) {
                self.line.pop();
            }
            if self.too_long || !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn fields(&self) -> Result<csv::StringRecord, String> {
        if self.too_long {
            return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
        }
        let quotes = self.line.iter().filter(|byte| **byte == b'"').count();
        if !quotes.is_multiple_of(2) {
            return Err("a quote is not closed (a value can't have a line break)".to_owned());
        }
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader.has_headers(false).flexible(true).trim(csv::Trim::All);
        let mut record = csv::ByteRecord::new();
        let read = reader.from_reader(&*self.line).read_byte_record(&mut record);
        read.map_err(|error| error.to_string())?;
        csv::StringRecord::from_byte_record(record).map_err(|_| "it is not UTF-8".to_owned())
    }

    fn line(&self) -> Result<StockLine, String> {
        let fields = self.fields()?;
        if fields.len() != self.width {
            return Err(format!("it has {} columns instead of {}", fields.len(), self.width));
        }
        let text = |column: usize| {
            let place = self.places[column];
            place.and_then(|place| fields.get(place)).filter(|text| !text.is_empty())
        };
        let name = |column| text(column).ok_or_else(|| format!("{} is empty", COLUMNS[column]));
        let delta: i64 = number(1, name(1)?)?;
        let options = SkuPatch {
            price_minor: text(3).map(|text| number(3, text)).transpose()?.map(Some),
            currency: text(4).map(Currency::new).transpose().map_err(words)?.map(Some),
            limit_per_user: text(5).map(|text| number(5, text)).transpose()?.map(Some),
            backorder_limit: text(6).map(|text| number(6, text)).transpose()?,
        };
        let line = StockLine {
            number: self.number,
            sku: Sku::new(name(0)?).map_err(words)?,
            delta,
            location: text(2).map(Location::new).transpose().map_err(words)?.unwrap_or_default(),
            options,
            reason: text(7).unwrap_or(REASON_DEFAULT).to_owned(),
        };
        line.check()?;
        Ok(line)
    }
}

impl Iterator for StockFile {
    type Item = Result<Result<StockLine, BadLine>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_text() {
            Err(error) => Some(Err(error)),
            Ok(false) => None,
            Ok(true) => {
                let number = self.number;
                Some(Ok(self.line().map_err(|what| BadLine { number, what })))
            }
        }
    }
}

impl StockLine {
    /// What the store would refuse whatever it holds, and what could be refused by half.
    fn check(&self) -> Result<(), String> {
        let (delta_max, reason_max) = (bounds::DELTA_UNITS_MAX, bounds::REASON_CHARS_MAX);
        if self.delta.unsigned_abs() > delta_max {
            return Err(format!("delta must be at most {delta_max} units in or out"));
        }
        if self.reason.chars().count() > reason_max {
            return Err(format!("reason must be at most {reason_max} characters"));
        }
        let price = self.options.price_minor.flatten().unwrap_or(0);
        if price > bounds::AMOUNT_MINOR_MAX {
            return Err(format!("price_minor must be at most {}", bounds::AMOUNT_MINOR_MAX));
        }
        if self.delta < 0 && self.options.backorder_limit.is_some() {
            let what = "a line takes units out or sets backorder_limit, not both: use two lines";
            return Err(what.to_owned());
        }
        Ok(())
    }
}

fn places(header: &csv::StringRecord) -> Result<[Option<usize>; COLUMNS.len()], String> {
    let mut places = [None; COLUMNS.len()];
    for (place, name) in header.iter().enumerate() {
        let Some(column) = COLUMNS.iter().position(|column| *column == name) else {
            return Err(format!("column {name:?} is unknown; known are {}", COLUMNS.join(", ")));
        };
        if places[column].replace(place).is_some() {
            return Err(format!("column {name:?} is there twice"));
        }
    }
    match places[..2].iter().position(Option::is_none) {
        Some(missing) => Err(format!("column {:?} is missing", COLUMNS[missing])),
        None => Ok(places),
    }
}

fn number<T: FromStr>(column: usize, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        let sign = if column == 1 { "" } else { " from 0" };
        format!("{} must be a whole number{sign} within its range, not {text:?}", COLUMNS[column])
    })
}

fn words(error: tidegate::OutOfBounds) -> String {
    error.to_string()
}

/// For the fuzzers: whatever is in a file, each line is read or told bad.
#[cfg(feature = "fuzzing")]
pub(in crate::cli) fn fuzz_file(bytes: &[u8]) {
    let bytes = Box::new(io::Cursor::new(bytes.to_vec()));
    let Ok(file) = StockFile::read(Path::new("fuzz.csv"), bytes) else { return };
    for line in file.map_while(Result::ok).flatten() {
        assert!(line.number > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Result<StockLine, BadLine>>, FileError> {
        let bytes = io::Cursor::new(text.to_vec());
        StockFile::read(Path::new("s.csv"), Box::new(bytes))?.collect()
    }

    #[test]
    fn columns_may_be_in_any_order_and_left_out() {
        let text = "\u{feff}delta,reason,sku,price_minor\r\n 5 ,\"a, b\",tea,\r\n\r\n-2,,tea,300";
        let lines = read(text.as_bytes()).unwrap();
        let [Ok(first), Ok(second)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((first.number, first.delta, &*first.reason), (2, 5, "a, b"));
        assert_eq!((first.options.clone(), first.location.as_str()), (SkuPatch::default(), "main"));
        assert_eq!((second.number, second.delta, &*second.reason), (4, -2, "import"));
        assert_eq!(second.options.price_minor, Some(Some(300)));
    }

    #[test]
    fn bad_headers_are_refused() {
        for (header, what) in [
            ("", "the file is empty"),
            ("sku\n", "column \"delta\" is missing"),
            ("sku,delta,sku\n", "column \"sku\" is there twice"),
            ("sku,delta,colour\n", "column \"colour\" is unknown"),
            ("tea,5\n", "column \"tea\" is unknown"),
        ] {
            let error = read(header.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(what), "{header:?} gave {error}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let long = format!("tea,1,{}", "x".repeat(LINE_BYTES_MAX));
        for (bad, what) in [
            (&b"tea"[..], "it has 1 columns instead of 7"),
            (b"tea,1,,,,,,", "it has 8 columns instead of 7"),
            (b",1,,,,,", "sku is empty"),
            (b"tea,,,,,,", "delta is empty"),
            (b"tea,1.5,,,,,", "delta must be a whole number within its range, not \"1.5\""),
            (b"tea,9999999999999,,,,,", "delta must be at most"),
            (b"t a,1,,,,,", "sku must be"),
            (b"tea,1,,-1,,,", "price_minor must be a whole number from 0"),
            (b"tea,1,,9999999999999999,,,", "price_minor must be at most"),
            (b"tea,1,,,eur,,", "currency must be"),
            (b"tea,1,,,,-1,", "limit_per_user must be"),
            (b"tea,1,,,,,5000000000", "backorder_limit must be"),
            (b"tea,-1,,,,,5", "use two lines"),
            (b"tea,1,\"open,,,,", "a quote is not closed"),
            (b"tea,1,\xff,,,,", "it is not UTF-8"),
            (long.as_bytes(), "it is longer than"),
        ] {
            let header = b"sku,delta,location,price_minor,currency,limit_per_user,backorder_limit";
            let text = [&header[..], bad, b"coffee,1,,,,,"].join(&b'\n');
            let lines = read(&text).unwrap();
            let shown = String::from_utf8_lossy(&bad[..bad.len().min(40)]).into_owned();
            let [Err(line), Ok(next)] = &lines[..] else { panic!("{shown}: {lines:?}") };
            assert!(line.number == 2 && line.what.contains(what), "{shown} gave {line:?}");
            assert_eq!((next.number, next.sku.as_str()), (3, "coffee"));
        }
    }
}
