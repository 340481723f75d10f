//! The syntax of strfry's configuration files: a superset of JSON whose library is taocpp/config.
//!
//! Comments are `#`, `//` and `/* */`; the outermost braces and all commas may be left out; `=` is `:`; a name is bare,
//! quoted or dotted; `name { … }` and `name [ … ]` add to what stands there, as `+=` does; `a + b` adds; the last
//! assignment wins; `name = delete` removes; `(env "X")` is a variable, `(include "f")` another file, and with `?`
//! either may be missing. References, `*` and the rarer extensions are refused by name.

use std::io;

use super::value::{Members, Node, Position, Value, set};
use crate::config::error;

/// The deepest nesting of values, and of files that include each other.
const MAX_DEPTH: u32 = 64;
/// The most bytes of text, all included files together. Places are counted from the start of a file, so more would be
/// slow.
pub const MAX_BYTES: usize = 256 << 10;

/// What a file may ask of its surroundings.
pub struct Outside<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of an included file.
    pub file: &'a dyn Fn(&str) -> io::Result<String>,
}

/// Why a file cannot be read, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}:{}: {text}", place.line, place.column)]
pub struct SyntaxError {
    /// The file.
    pub file: String,
    /// The place.
    pub place: Position,
    /// What is wrong there.
    pub text: String,
}

/// Reads a file's text; `file` names it in errors. The result is an object.
///
/// # Errors
/// At the first mistake, at a variable or file that is missing, or where nesting or size exceed 64 levels or 256 KiB.
pub fn parse(file: &str, text: &str, outside: &Outside<'_>) -> Result<Node, SyntaxError> {
    let mut members = Members::new();
    let mut bytes = 0;
    Reader { file, text, at: 0, depth: 0, bytes: &mut bytes, outside }.document(&mut members)?;
    Ok(Node { place: Position { line: 1, column: 1 }, value: Value::Object(members), twice: None })
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    at: usize,
    depth: u32,
    bytes: &'a mut usize,
    outside: &'a Outside<'a>,
}

impl<'a> Reader<'a> {
    fn document(&mut self, members: &mut Members) -> Result<(), SyntaxError> {
        *self.bytes += self.text.len();
        if *self.bytes > MAX_BYTES {
            return Err(self.error(format!("the files hold more than {MAX_BYTES} bytes")));
        }
        self.skip_space()?;
        if !self.take("{") {
            return self.members(members, None);
        }
        self.members(members, Some('}'))?;
        self.skip_space()?;
        if self.peek().is_some() { Err(self.error("text after the closing brace")) } else { Ok(()) }
    }

    /// Reads members until `end`, straight into an object that may hold some already.
    fn members(&mut self, into: &mut Members, end: Option<char>) -> Result<(), SyntaxError> {
        loop {
            self.skip_space()?;
            match self.peek() {
                None if end.is_none() => return Ok(()),
                None => return Err(self.error("the file ends within { }")),
                Some('}') if end.is_some() => {
                    self.at += 1;
                    return Ok(());
                }
                Some('(') => self.include(into)?,
                Some(_) => self.member(into)?,
            }
            self.skip_space()?;
            self.take(",");
        }
    }

    fn member(&mut self, into: &mut Members) -> Result<(), SyntaxError> {
        let place = self.place();
        let mut path = self.path()?;
        let name = path.pop().unwrap_or_default();
        let mut target = into;
        for part in &path {
            target = self.object(target, part, place)?;
        }
        self.skip_space()?;
        let adds = self.take("+=") || matches!(self.peek(), Some('{' | '['));
        if !adds && !self.take("=") && !self.take(":") {
            return Err(self.error(format!("expected = after {name}")));
        }
        self.skip_space()?;
        if adds && self.peek() == Some('{') {
            if let Some((_, old)) = target.iter_mut().find(|(own, _)| *own == name) {
                old.twice = Some((old.place, place));
            }
            let object = self.object(target, &name, place)?;
            return self.enter(|reader| {
                reader.at += 1;
                reader.members(object, Some('}'))
            });
        }
        if self.text[self.at..].starts_with("delete") && !is_name(self.text[self.at + 6..].chars().next()) {
            self.at += "delete".len();
            target.retain(|(own, _)| *own != name);
            return Ok(());
        }
        let mut node = self.sum()?;
        if adds && let Some((_, old)) = target.iter().find(|(own, _)| *own == name) {
            let (kind, other) = (old.value.kind(), node.value.kind());
            let sum = old.value.clone().plus(node.value);
            node.value = sum.ok_or_else(|| self.error(format!("cannot add {other} to {kind}")))?;
        }
        node.place = place;
        set(target, &name, node);
        Ok(())
    }

    /// The object of that name, created if there is none.
    fn object<'m>(
        &self,
        members: &'m mut Members,
        name: &str,
        place: Position,
    ) -> Result<&'m mut Members, SyntaxError> {
        let found = members.iter().position(|(own, _)| own == name).unwrap_or_else(|| {
            members.push((name.into(), Node { place, value: Value::Object(Members::new()), twice: None }));
            members.len() - 1
        });
        match &mut members[found].1.value {
            Value::Object(members) => Ok(members),
            other => Err(self.error(format!("{name} is {}, not an object", other.kind()))),
        }
    }

    /// `(include "f")` or `(include? "f")`, in place of a member.
    fn include(&mut self, into: &mut Members) -> Result<(), SyntaxError> {
        let start = self.at;
        let (word, argument) = self.extension()?;
        let text = match (word.as_str(), (self.outside.file)(&argument)) {
            ("include" | "include?", Ok(text)) => text,
            ("include?", Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            ("include" | "include?", Err(error)) => return Err(self.error_at(start, format!("{argument}: {error}"))),
            (other, _) => return Err(self.error_at(start, format!("({other} …) is not supported here"))),
        };
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(self.error_at(start, format!("files include each other more than {MAX_DEPTH} deep")));
        }
        Reader { file: &argument, text: &text, at: 0, depth, bytes: self.bytes, outside: self.outside }.document(into)
    }

    fn sum(&mut self) -> Result<Node, SyntaxError> {
        let mut sum = self.term()?;
        loop {
            self.skip_space()?;
            if self.text[self.at..].starts_with("+=") || !self.take("+") {
                return Ok(sum);
            }
            self.skip_space()?;
            let (kind, term) = (sum.value.kind(), self.term()?);
            let other = term.value.kind();
            let value = sum.value.plus(term.value);
            sum.value = value.ok_or_else(|| self.error(format!("cannot add {other} to {kind}")))?;
        }
    }

    fn term(&mut self) -> Result<Node, SyntaxError> {
        let place = self.place();
        let value = match self.peek() {
            Some('{') => self.enter(|reader| {
                reader.at += 1;
                let mut members = Members::new();
                reader.members(&mut members, Some('}')).map(|()| Value::Object(members))
            })?,
            Some('[') => self.enter(Self::list)?,
            Some('"' | '\'') => Value::Text(self.string()?),
            Some('(') => self.variable()?,
            Some('0'..='9' | '-' | '.') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { place, value, twice: None })
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut nodes = Vec::new();
        loop {
            self.skip_space()?;
            if self.take("]") {
                return Ok(Value::List(nodes));
            }
            nodes.push(self.sum()?);
            self.skip_space()?;
            self.take(",");
        }
    }

    /// `(env "X")` or `(env? "X")`.
    fn variable(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        let (word, argument) = self.extension()?;
        match (word.as_str(), (self.outside.variable)(&argument)) {
            ("env" | "env?", Some(text)) => Ok(Value::Text(text)),
            ("env?", None) => Ok(Value::Null),
            ("env", None) => Err(self.error_at(start, format!("the environment has no variable {argument}"))),
            (other, _) => Err(self.error_at(start, format!("({other} …) is not supported; write the value itself"))),
        }
    }

    /// A word and a string in parentheses.
    fn extension(&mut self) -> Result<(String, String), SyntaxError> {
        let start = self.at;
        self.at += 1;
        self.skip_space()?;
        let word = self.take_while(|c| is_name(Some(c)) || "?.".contains(c));
        self.skip_space()?;
        if !matches!(self.peek(), Some('"' | '\'')) {
            let text = format!("({word} …) is not supported; write the value itself");
            return Err(self.error_at(start, text));
        }
        let argument = self.string()?;
        self.skip_space()?;
        if self.take(")") { Ok((word.into(), argument)) } else { Err(self.error("expected )")) }
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        Ok(match self.take_while(|c| is_name(Some(c))) {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            "" => return Err(self.error_at(start, "expected a value")),
            word => return Err(self.error_at(start, format!("{word} is no value; quote it if it is a string"))),
        })
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        let wrong = |reader: &Self, text: &str| reader.error_at(start, format!("{text} is no number"));
        if self.take("0x") {
            let digits = self.take_while(|c| is_name(Some(c)));
            let value = u64::from_str_radix(digits, 16).map_err(|_| wrong(self, &format!("0x{digits}")))?;
            return Ok(Value::Integer(value.into()));
        }
        let mut last = ' ';
        let text = self.take_while(|c| {
            let taken = c.is_ascii_alphanumeric() || c == '.' || ("+-".contains(c) && " eE".contains(last));
            last = c;
            taken
        });
        let whole = text.parse::<i128>().ok().filter(|&n| n >= i64::MIN.into() && n <= u64::MAX.into());
        let value = match whole {
            Some(value) => Value::Integer(value),
            // Rust reads "inf" and "nan" too, which begin with a letter and do not come here.
            None => Value::Float(text.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(|| wrong(self, text))?),
        };
        Ok(value)
    }

    fn path(&mut self) -> Result<Vec<String>, SyntaxError> {
        let mut path = Vec::new();
        loop {
            path.push(match self.peek() {
                Some('"' | '\'') => self.string()?,
                Some('*') => return Err(self.error("* is not supported; name each member")),
                _ => match self.take_while(|c| is_name(Some(c))) {
                    "" => return Err(self.error("expected a name")),
                    name => name.into(),
                },
            });
            if !self.take(".") {
                return Ok(path);
            }
        }
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        let Some(quote) = self.next() else { return Err(self.error("expected a string")) };
        let triple = quote.to_string().repeat(3);
        if let Some(raw) = self.text[start..].strip_prefix(&triple) {
            let end = raw.find(&triple).ok_or_else(|| self.error_at(start, "the string has no end"))?;
            self.at = start + 3 + end + 3;
            let body = &raw[..end];
            return Ok(body.strip_prefix("\r\n").or(body.strip_prefix('\n')).unwrap_or(body).into());
        }
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.error_at(start, "the string has no end on its line")),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        Ok(match self.next() {
            Some(c @ ('"' | '\'' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some('0') => '\0',
            Some('u') => {
                let high = self.unit()?;
                let low = if (0xd800..0xdc00).contains(&high) && self.take("\\u") { Some(self.unit()?) } else { None };
                let units = [Some(high), low].into_iter().flatten().map(|unit| unit as u16);
                let mut decoded = char::decode_utf16(units);
                match (decoded.next(), decoded.next()) {
                    (Some(Ok(c)), None) => c,
                    _ => return Err(self.error("the escape is no character")),
                }
            }
            _ => return Err(self.error("unknown escape")),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|text| u32::from_str_radix(text, 16).ok());
        let unit = unit.ok_or_else(|| self.error("expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    fn skip_space(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']);
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with('#') || trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                let end = trimmed.find("*/").ok_or_else(|| self.error("the comment has no end"))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// Runs `inner` one level deeper.
    fn enter<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("values are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, mut is_taken: impl FnMut(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let taken = &rest[..rest.find(|c| !is_taken(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn place(&self) -> Position {
        place(self.text, self.at)
    }

    fn error(&self, text: impl Into<String>) -> SyntaxError {
        self.error_at(self.at, text)
    }

    fn error_at(&self, at: usize, text: impl Into<String>) -> SyntaxError {
        SyntaxError { file: self.file.into(), place: place(self.text, at), text: text.into() }
    }
}

fn place(text: &str, at: usize) -> Position {
    let (line, column) = error::place(text, at);
    Position { line, column }
}

const fn is_name(c: Option<char>) -> bool {
    matches!(c, Some('a'..='z' | 'A'..='Z' | '0'..='9' | '_'))
}
