//! What no statement may reach: this machine's files and programs, as far as they can be seen in its
//! text. The engine's grants (`users.xml`) keep the rest out: the two lists meet.
//!
//! libchdb is made for a program's own use, where everything that the program may read is fair game.
//! Behind HTTP it is not: its `default` database finds any file by its path, `url` takes `file://`,
//! a dictionary runs commands. The grants cover table functions, engines and dictionaries, by
//! whatever way a statement comes to them. Listed here is what needs no grant.

use crate::exception::{Exception, code};
use crate::lexer::{Token, TokenKind};

/// Names that may not stand before a bracket.
const NAMES: &[&str] =
    &["file", "executable", "executable_pool", "eval", "disk", "catboostEvaluate"];
/// Settings that name a file of the server, by how they begin.
const FILE_SETTINGS: &[&str] =
    &["format_template_", "format_schema", "format_avro_schema_registry"];

/// Looks at a token and the one before it.
pub(crate) fn check(text: &[u8], previous: Option<&Token>, token: &Token) -> Result<(), Exception> {
    let bytes = |token: &Token| &text[token.start..token.end];
    let is_name = matches!(token.kind, TokenKind::Word | TokenKind::QuotedName);
    if is_name && names_a_file(unquoted(bytes(token))) {
        return Err(denied("setting", bytes(token)));
    }
    let Some(previous) = previous else { return Ok(()) };
    let word = |token: &Token, word: &str| {
        token.kind == TokenKind::Word && bytes(token).eq_ignore_ascii_case(word.as_bytes())
    };
    if word(previous, "into") && word(token, "outfile") {
        return Err(Exception::new(
            code::FUNCTION_NOT_ALLOWED,
            "FUNCTION_NOT_ALLOWED",
            "INTO OUTFILE is not allowed over HTTP",
        ));
    }
    let next = text[token.start];
    if next != b'(' && next != b'=' {
        return Ok(());
    }
    let name = match previous.kind {
        TokenKind::Word => bytes(previous),
        // A name with an escape in it could spell anything; no function or setting needs one.
        TokenKind::QuotedName if bytes(previous).contains(&b'\\') => {
            return Err(denied("name", bytes(previous)));
        }
        TokenKind::QuotedName => unquoted(bytes(previous)),
        TokenKind::Text
        | TokenKind::Open
        | TokenKind::Close
        | TokenKind::Semicolon
        | TokenKind::Other => return Ok(()),
    };
    match next == b'(' && NAMES.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name)) {
        true => Err(denied("function", name)),
        false => Ok(()),
    }
}

/// Whether `name` is a setting that names a file of the server.
pub(crate) fn names_a_file(name: &[u8]) -> bool {
    FILE_SETTINGS.iter().any(|begin| {
        name.get(..begin.len()).is_some_and(|head| head.eq_ignore_ascii_case(begin.as_bytes()))
    })
}

/// Without its quotes, which are one byte each or three for typographic ones.
fn unquoted(name: &[u8]) -> &[u8] {
    let width = match name.first() {
        Some(b'"' | b'`') => 1,
        Some(0xE2) => 3,
        Some(_) | None => return name,
    };
    name.get(width..name.len().saturating_sub(width)).unwrap_or(&[])
}

fn denied(what: &str, name: &[u8]) -> Exception {
    let name = String::from_utf8_lossy(name);
    Exception::new(
        code::ACCESS_DENIED,
        "ACCESS_DENIED",
        format_args!("{what} {name} is not allowed on this server"),
    )
}
