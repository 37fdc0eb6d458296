//! What `strace -f -xx` writes, line by line: calls that begin, end, or both. It knows nothing of
//! what the calls mean.

use anyhow::{Context as _, Result, bail};

/// Which part of a call a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: no other thread's call came between.
    Whole,
    /// Its arguments; the result follows in another line.
    Begin,
    /// Its result.
    End,
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// A string or a buffer.
    Bytes(Vec<u8>),
    /// Anything else, as it stands there.
    Word(String),
}

/// A line that tells of a call.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) thread: u32,
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) arguments: Vec<Argument>,
    /// Only if it has ended.
    pub(crate) result: i64,
}

/// The result of a call that never returned, since its process was killed.
pub(crate) const NEVER: i64 = i64::MIN;
const UNFINISHED: &str = "<unfinished ...>";

/// Reads one line; `None` for one about a signal or an exit.
pub(crate) fn read(line: &str) -> Result<Option<Line>> {
    let (thread, rest) = line.split_once(' ').context("no thread")?;
    let (thread, rest) = (thread.parse()?, rest.trim_start());
    if rest.starts_with("---") || rest.starts_with("+++") {
        return Ok(None);
    }
    if let Some(resumed) = rest.strip_prefix("<... ") {
        let (name, rest) = resumed.split_once(" resumed>").context("no resumed call")?;
        let result = result_of(rest)?;
        let (name, part) = (name.to_owned(), Part::End);
        return Ok(Some(Line { thread, name, part, arguments: Vec::new(), result }));
    }
    let (name, rest) = rest.split_once('(').context("no call")?;
    let name = name.to_owned();
    let (arguments, rest) = arguments_of(rest)?;
    let (part, result) =
        if rest.contains(UNFINISHED) { (Part::Begin, 0) } else { (Part::Whole, result_of(rest)?) };
    Ok(Some(Line { thread, name, part, arguments, result }))
}

/// The arguments up to the closing bracket or to where the line was cut, and what follows.
fn arguments_of(text: &str) -> Result<(Vec<Argument>, &str)> {
    let (mut arguments, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if rest.starts_with(')') || rest.starts_with(UNFINISHED) {
            return Ok((arguments, rest));
        }
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').context("an endless string")?;
            arguments.push(Argument::Bytes(unescape(&quoted[..end])?));
            rest = &quoted[end + 1..];
            if rest.starts_with("...") {
                bail!("strace has cut a buffer short");
            }
        } else {
            let end = rest.find([',', ')', '<']).context("an endless argument")?;
            arguments.push(Argument::Word(rest[..end].trim().to_owned()));
            rest = &rest[end..];
        }
    }
}

fn unescape(text: &str) -> Result<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => bail!("no hexadecimal digit: {byte}"),
    };
    let bytes = text.as_bytes().chunks(4).map(|escape| match escape {
        [b'\\', b'x', high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
        _ => bail!("no escaped byte: {escape:?}"),
    });
    bytes.collect()
}

fn result_of(text: &str) -> Result<i64> {
    let (_, result) = text.rsplit_once(" = ").context("no result")?;
    let number = result.split_whitespace().next().context("an empty result")?;
    Ok(match number.strip_prefix("0x") {
        // Flags.
        Some(number) => i64::from_str_radix(number, 16)?,
        None if number == "?" => NEVER,
        None => number.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind() {
        let whole = r#"71  pwrite64(5, "\x00\xff", 2, 4096) = 2"#;
        let whole = read(whole).unwrap().unwrap();
        assert_eq!((whole.thread, whole.name.as_str(), whole.result), (71, "pwrite64", 2));
        assert_eq!(whole.arguments[1], Argument::Bytes(vec![0, 255]));
        assert_eq!(whole.arguments[3], Argument::Word("4096".to_owned()));

        let begin = read("71 fdatasync(5 <unfinished ...>").unwrap().unwrap();
        assert_eq!((begin.part, begin.arguments.len()), (Part::Begin, 1));
        let end = read("71 <... fdatasync resumed>) = 0").unwrap().unwrap();
        assert_eq!((end.part, end.name.as_str(), end.result), (Part::End, "fdatasync", 0));
        let failed = read(r#"7 unlink("\x61") = -1 ENOENT (No such file or directory)"#);
        assert_eq!(failed.unwrap().unwrap().result, -1);
        let killed = read("7 <... write resumed>) = ?").unwrap().unwrap();
        assert_eq!(killed.result, NEVER);
        assert!(read("71 +++ exited with 0 +++").unwrap().is_none());
        assert!(read(r#"7 write(1, "\x61"..., 4) = 4"#).is_err());
    }
}
