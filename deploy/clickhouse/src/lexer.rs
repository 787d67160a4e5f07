//! ClickHouse's tokens, as far as a gatekeeper needs them: where words, quoted text, brackets and
//! semicolons are, and what is comment. Follows `src/Parsers/Lexer.cpp` of ClickHouse.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// An identifier or keyword without quotes.
    Word,
    /// `"name"` or `` `name` ``.
    QuotedName,
    /// `'text'` or a heredoc.
    Text,
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// `;`
    Semicolon,
    /// Anything else, one byte or one number at a time.
    Other,
}

/// One token and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Tokens of a text; comments and white space are passed over.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            match rest {
                [b, ..] if is_blank(*b) => self.at += 1,
                // No-break space, and the byte-order mark, which ClickHouse passes over too.
                [0xC2, 0xA0, ..] => self.at += 2,
                [0xEF, 0xBB, 0xBF, ..] => self.at += 3,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => {
                    self.at += find(rest, b"\n").unwrap_or(rest.len());
                }
                [b'/', b'*', inner @ ..] => {
                    self.at += find(inner, b"*/").map_or(rest.len(), |end| end + 4);
                }
                _ => return,
            }
        }
    }

    /// Length of text from its opening quote to after its closing one, or to the end.
    fn quoted(&self, quote: u8) -> usize {
        let rest = self.rest();
        let mut at = 1;
        while at < rest.len() {
            match rest[at] {
                b'\\' => at += 2,
                b if b == quote && rest.get(at + 1) == Some(&quote) => at += 2,
                b if b == quote => return at + 1,
                _ => at += 1,
            }
        }
        rest.len()
    }

    /// Length of `$tag$ … $tag$`, when the text here is one.
    fn heredoc(&self) -> Option<usize> {
        let rest = self.rest();
        let tag = 2 + rest[1..].iter().position(|b| !is_word(*b))?;
        if rest[tag - 1] != b'$' {
            return None;
        }
        let end = find(&rest[tag..], &rest[..tag])?;
        Some(tag + end + tag)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let rest = self.rest();
        let (kind, length) = match rest {
            [] => return None,
            [b'\'', ..] => (TokenKind::Text, self.quoted(b'\'')),
            [quote @ (b'"' | b'`'), ..] => (TokenKind::QuotedName, self.quoted(*quote)),
            // Typographic quotes: ‘…’ and “…”, without escapes.
            [0xE2, 0x80, 0x98, ..] => (TokenKind::Text, typographic(rest, &[0xE2, 0x80, 0x99])),
            [0xE2, 0x80, 0x9C, ..] => {
                (TokenKind::QuotedName, typographic(rest, &[0xE2, 0x80, 0x9D]))
            }
            [b'$', ..] => self.heredoc().map_or((TokenKind::Other, 1), |n| (TokenKind::Text, n)),
            [b'(' | b'[' | b'{', ..] => (TokenKind::Open, 1),
            [b')' | b']' | b'}', ..] => (TokenKind::Close, 1),
            [b';', ..] => (TokenKind::Semicolon, 1),
            [b, ..] if b.is_ascii_alphabetic() || *b == b'_' => {
                let end = rest.iter().position(|b| !is_word(*b) && *b != b'$');
                (TokenKind::Word, end.unwrap_or(rest.len()))
            }
            [b, ..] if b.is_ascii_digit() => {
                let end = rest.iter().position(|b| !is_word(*b));
                (TokenKind::Other, end.unwrap_or(rest.len()))
            }
            _ => (TokenKind::Other, 1),
        };
        let start = self.at;
        self.at = (start + length).min(self.text.len());
        Some(Token { kind, start, end: self.at })
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn typographic(rest: &[u8], close: &[u8]) -> usize {
    find(rest, close).map_or(rest.len(), |end| end + close.len())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(TokenKind, &str)> {
        Lexer::new(text.as_bytes()).map(|t| (t.kind, &text[t.start..t.end])).collect()
    }

    #[test]
    fn semicolons_in_quotes_comments_and_heredocs_are_not_tokens() {
        let text = "a /* ; */ ';' \"b;\" `c;` -- ;\n $x$ ; $x$ # ;\n ‘;’ 'it''s;' 'a\\';' z";
        assert!(words(text).iter().all(|(kind, _)| *kind != TokenKind::Semicolon));
        assert_eq!(words(text).last(), Some(&(TokenKind::Word, "z")));
    }

    #[test]
    fn a_semicolon_after_a_closed_quote_is_a_token() {
        for text in ["'a';", "$$ $$;", "/* /* */ ;", "'\\\\';", "``;", "“a\";”;", "$a$ $b$ $a$;"]
        {
            let last = words(text).pop();
            assert_eq!(last, Some((TokenKind::Semicolon, ";")), "{text}");
        }
    }

    #[test]
    fn any_bytes_end() {
        for text in
            [&b"'\\"[..], b"$", b"$$", b"$a", b"/*", b"--", b"\xFF\xFE;", b"`\\", b"\xE2\x80\x98"]
        {
            assert!(Lexer::new(text).count() <= text.len(), "{text:?}");
        }
    }
}
