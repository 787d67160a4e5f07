//! What a request's SQL is: a query, or an INSERT whose data follows it.
//!
//! This is the gate in front of the engine. libchdb runs every statement of a text and, given data
//! inline, runs what follows a blank line in it as SQL. So a text holds one statement here, an
//! INSERT is cut where its data begins, and what reaches the server's files is refused. The engine's
//! own parser then counts the statements again, and its grants (`users.xml`) say what may be done.

use crate::access;
use crate::exception::{Exception, code};
use crate::lexer::{Lexer, Token, TokenKind};

/// What the text holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// Nothing but white space and comments.
    Empty,
    /// A statement that needs no data.
    Query(Query),
    /// An INSERT whose data begins at byte `data_at` of the text.
    Insert { head: String, format: String, data_at: usize },
    /// An INSERT that says neither FORMAT nor VALUES nor SELECT: these may follow in the body.
    InsertHead { head: String },
}

/// A statement that needs no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) sql: String,
    /// Of its FORMAT clause.
    pub(crate) format: Option<String>,
    /// Whether it begins as a SELECT does.
    pub(crate) selects: bool,
}

/// Reads `text`.
pub(crate) fn parse(text: &[u8]) -> Result<Statement, Exception> {
    Tokens { text, lexer: Lexer::new(text) }.statement()
}

/// Refuses rows after which something else follows a semicolon: the engine would take the rows and
/// drop the rest without a word.
pub(crate) fn ends_values(data: &[u8]) -> Result<(), Exception> {
    let mut tokens = Lexer::new(data).skip_while(|token| token.kind != TokenKind::Semicolon);
    match tokens.any(|token| token.kind != TokenKind::Semicolon) {
        true => Err(multi_statement()),
        false => Ok(()),
    }
}

struct Tokens<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
}

impl Tokens<'_> {
    fn statement(mut self) -> Result<Statement, Exception> {
        let Some(first) = self.lexer.clone().find(|token| token.kind != TokenKind::Semicolon)
        else {
            return Ok(Statement::Empty);
        };
        if self.is(&first, "insert") {
            if let Some(insert) = self.insert()? {
                return Ok(insert);
            }
            self.lexer = Lexer::new(self.text);
        }
        self.query(&first).map(Statement::Query)
    }

    fn is(&self, token: &Token, word: &str) -> bool {
        token.kind == TokenKind::Word
            && self.text[token.start..token.end].eq_ignore_ascii_case(word.as_bytes())
    }

    fn is_any(&self, token: &Token, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(token, word))
    }

    fn utf8(&self, start: usize, end: usize) -> Result<String, Exception> {
        String::from_utf8(self.text[start..end].to_vec())
            .map_err(|_| syntax("the SQL is not valid UTF-8"))
    }

    /// A whole statement without data: one statement, no files.
    fn query(mut self, first: &Token) -> Result<Query, Exception> {
        let selects =
            self.is_any(first, &["select", "with", "from"]) || self.text[first.start] == b'(';
        let mut depth = 0_usize;
        let mut format = None;
        let mut previous: Option<Token> = None;
        let mut end = 0;
        while let Some(token) = self.lexer.next() {
            access::check(self.text, previous.as_ref(), &token)?;
            match token.kind {
                TokenKind::Semicolon if previous.is_none() => continue,
                TokenKind::Semicolon => {
                    if self.lexer.any(|token| token.kind != TokenKind::Semicolon) {
                        return Err(multi_statement());
                    }
                    break;
                }
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth = depth.saturating_sub(1),
                TokenKind::Word | TokenKind::QuotedName if depth == 0 => {
                    if previous.is_some_and(|previous| self.is(&previous, "format")) {
                        format = Some((token.start, token.end));
                    }
                }
                TokenKind::Word | TokenKind::QuotedName | TokenKind::Text | TokenKind::Other => {}
            }
            end = token.end;
            previous = Some(token);
        }
        let format = match format {
            Some((start, end)) => Some(self.utf8(start, end)?.trim_matches(['`', '"']).to_owned()),
            None => None,
        };
        Ok(Query { sql: self.utf8(first.start, end)?, format, selects })
    }

    /// An INSERT up to its data; `None` when it is an `INSERT … SELECT`.
    fn insert(&mut self) -> Result<Option<Statement>, Exception> {
        let start = self
            .lexer
            .find(|token| token.kind != TokenKind::Semicolon)
            .map_or(0, |insert| insert.start);
        let mut depth = 0_usize;
        let mut end = start;
        let mut in_target = true;
        let mut previous: Option<Token> = None;
        let mut group_opened = false;
        while let Some(token) = self.lexer.next() {
            access::check(self.text, previous.as_ref(), &token)?;
            let after_name = !in_target || self.ends_target(previous.as_ref(), &token);
            match token.kind {
                TokenKind::Semicolon => {
                    if self.lexer.any(|token| token.kind != TokenKind::Semicolon) {
                        return Err(multi_statement());
                    }
                    return Err(syntax("an INSERT without data ends with a semicolon"));
                }
                TokenKind::Open => {
                    depth += 1;
                    group_opened = depth == 1;
                }
                TokenKind::Close => depth = depth.saturating_sub(1),
                TokenKind::Word if depth == 1 && group_opened => {
                    group_opened = false;
                    if self.is_any(&token, &["select", "with"]) {
                        return Ok(None);
                    }
                }
                TokenKind::Word if depth == 0 && after_name => {
                    in_target = false;
                    if self.is_any(&token, &["select", "with", "watch", "explain"]) {
                        return Ok(None);
                    }
                    if self.is(&token, "from") {
                        return Err(Exception::new(
                            code::FUNCTION_NOT_ALLOWED,
                            "FUNCTION_NOT_ALLOWED",
                            "INSERT FROM INFILE is not allowed over HTTP",
                        ));
                    }
                    if self.is(&token, "values") {
                        let (head, data_at) = (self.utf8(start, end)?, token.end);
                        return Ok(Some(Statement::Insert {
                            head,
                            format: "Values".into(),
                            data_at,
                        }));
                    }
                    if self.is(&token, "format") {
                        return self.insert_format(start, end).map(Some);
                    }
                }
                TokenKind::Word | TokenKind::QuotedName | TokenKind::Text | TokenKind::Other => {
                    group_opened = false
                }
            }
            if token.kind != TokenKind::Open {
                group_opened = false;
            }
            end = token.end;
            previous = Some(token);
        }
        Ok(Some(Statement::InsertHead { head: self.utf8(start, end)? }))
    }

    /// Whether `token` stands after the table's name: a name ends where two words meet without a
    /// dot. `INSERT INTO format FORMAT CSV` names a table called `format`.
    fn ends_target(&self, previous: Option<&Token>, token: &Token) -> bool {
        let Some(previous) = previous else { return false };
        let dotted = self.text[previous.start..previous.end] == *b".";
        !dotted
            && token.kind == TokenKind::Word
            && !self.is_any(previous, &["insert", "into", "table", "function"])
    }

    /// After `FORMAT`: the name, perhaps SETTINGS, then the data.
    fn insert_format(&mut self, start: usize, end: usize) -> Result<Statement, Exception> {
        let name = self.lexer.next().filter(|token| token.kind == TokenKind::Word);
        let name = name.ok_or_else(|| syntax("FORMAT needs a name"))?;
        let format = self.utf8(name.start, name.end)?;
        let mut head = self.utf8(start, end)?;
        let mut data_at = name.end;
        let mut ahead = self.lexer.clone();
        if let Some(settings) = ahead.next()
            && self.is(&settings, "settings")
        {
            let settings_end = settings_end(self.text, &mut ahead, settings.end);
            head.push(' ');
            head.push_str(&self.utf8(settings.start, settings_end)?);
            data_at = settings_end;
        }
        Ok(Statement::Insert { head, format, data_at: data_at + data_gap(&self.text[data_at..])? })
    }
}

/// Where `name = value, …` ends.
fn settings_end(text: &[u8], lexer: &mut Lexer<'_>, start: usize) -> usize {
    let mut end = start;
    loop {
        let mut ahead = lexer.clone();
        let (Some(_name), Some(equals), Some(mut value)) =
            (ahead.next(), ahead.next(), ahead.next())
        else {
            return end;
        };
        if text[equals.start] != b'=' {
            return end;
        }
        if matches!(text[value.start], b'-' | b'+') {
            match ahead.next() {
                Some(number) => value = number,
                None => return end,
            }
        }
        end = value.end;
        *lexer = ahead.clone();
        match ahead.next() {
            Some(comma) if text[comma.start] == b',' => *lexer = ahead,
            Some(_) | None => return end,
        }
    }
}

/// Between the clause and the data: blanks on its line, then one line end.
fn data_gap(rest: &[u8]) -> Result<usize, Exception> {
    let mut gap = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | 0x0C)).count();
    if rest.get(gap) == Some(&b';') {
        return Err(syntax("there is a ';' before the data of the INSERT"));
    }
    if rest.get(gap) == Some(&b'\r') {
        gap += 1;
    }
    if rest.get(gap) == Some(&b'\n') {
        gap += 1;
    }
    Ok(gap)
}

pub(crate) fn syntax(text: &str) -> Exception {
    Exception::new(code::SYNTAX_ERROR, "SYNTAX_ERROR", format_args!("Syntax error: {text}"))
}

/// More than one statement in a text.
pub(crate) fn multi_statement() -> Exception {
    syntax("Multi-statements are not allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(text: &str) -> (String, String, &str) {
        let parsed = parse(text.as_bytes()).unwrap();
        let Statement::Insert { head, format, data_at } = parsed else {
            panic!("{text}: {parsed:?}")
        };
        (head, format, &text[data_at..])
    }

    fn query(text: &str) -> Query {
        let parsed = parse(text.as_bytes()).unwrap();
        let Statement::Query(query) = parsed else { panic!("{text}: {parsed:?}") };
        query
    }

    #[test]
    fn insert_is_cut_where_its_data_begins() {
        let cases = [
            (
                "INSERT INTO t FORMAT CSV\n1\n\nDROP TABLE t",
                "INSERT INTO t",
                "CSV",
                "1\n\nDROP TABLE t",
            ),
            (
                "insert into db.t(a, `b;`) values (1, ';')",
                "insert into db.t(a, `b;`)",
                "Values",
                " (1, ';')",
            ),
            (
                "INSERT INTO t SETTINGS x=1 FORMAT Native",
                "INSERT INTO t SETTINGS x=1",
                "Native",
                "",
            ),
            (
                "INSERT INTO t FORMAT TSV SETTINGS x=1, y='a'\n7",
                "INSERT INTO t SETTINGS x=1, y='a'",
                "TSV",
                "7",
            ),
            ("INSERT INTO format FORMAT CSV 1", "INSERT INTO format", "CSV", "1"),
            ("INSERT INTO values.values VALUES (1)", "INSERT INTO values.values", "Values", " (1)"),
            (
                "/* ; */ INSERT INTO TABLE t (a) -- x\n FORMAT RowBinary",
                "INSERT INTO TABLE t (a)",
                "RowBinary",
                "",
            ),
        ];
        for (text, head, format, data) in cases {
            assert_eq!(insert(text), (head.into(), format.into(), data), "{text}");
        }
    }

    #[test]
    fn insert_select_is_a_query() {
        for text in [
            "INSERT INTO t SELECT 1",
            "INSERT INTO t (a) (SELECT 1)",
            "INSERT INTO t WITH 1 AS x SELECT x",
            "INSERT INTO t (a) SETTINGS x = 1 SELECT 1 FORMAT Null",
        ] {
            assert_eq!(query(text).sql, text);
        }
    }

    #[test]
    fn format_and_trailing_semicolons_are_seen() {
        assert_eq!(query("SELECT 1 FORMAT JSON SETTINGS a=1;;").format.as_deref(), Some("JSON"));
        assert_eq!(query("; SELECT 1 ; -- end").sql, "SELECT 1");
        assert_eq!(query("SELECT 1 AS format").format, None);
        assert_eq!(query("SELECT (SELECT 1 FORMAT x)").format, None);
        assert!(query("(SELECT 1)").selects && !query("SHOW TABLES").selects);
        assert_eq!(parse(b" -- nothing"), Ok(Statement::Empty));
    }

    #[test]
    fn second_statements_are_refused_however_they_hide() {
        for text in [
            "SELECT 1; SELECT 2",
            "SELECT 1;/**/DROP TABLE t",
            "SELECT ';'; DROP TABLE t",
            "SELECT $a$ ; $a$; DROP TABLE t",
            "SELECT 'it\\'s'; DROP TABLE t",
            "SELECT 1 -- ;\n; DROP TABLE t",
            "INSERT INTO t SELECT 1; DROP TABLE t",
            "INSERT INTO t; DROP TABLE t",
            "INSERT INTO t (a); DROP TABLE t VALUES (1)",
        ] {
            let refused = parse(text.as_bytes()).map_err(|e| e.code);
            assert_eq!(refused, Err(code::SYNTAX_ERROR), "{text}");
        }
    }

    #[test]
    fn values_end_with_their_statement() {
        for data in ["(1), (';')", "(1);", " (1) ; -- ;\n;", "(1, $$;$$), (2, 'it''s;"] {
            assert_eq!(ends_values(data.as_bytes()), Ok(()), "{data}");
        }
        for data in ["(1); DROP TABLE t", "(';');(2)", "(1);;x"] {
            assert!(ends_values(data.as_bytes()).is_err(), "{data}");
        }
    }

    #[test]
    fn the_servers_files_are_out_of_reach() {
        for text in [
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SELECT 1 into /* */ outfile '/tmp/x' FORMAT CSV",
            "SELECT * FROM file('/etc/passwd')",
            "SELECT * FROM `File` ('/etc/passwd')",
            "SELECT * FROM `\\x66ile`('/etc/passwd')",
            "SELECT * FROM “file”('/etc/passwd')",
            "INSERT INTO FUNCTION file('/tmp/x', CSV) SELECT 1",
            "INSERT INTO TABLE FUNCTION file('/tmp/x', CSV) VALUES (1)",
            "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
            "CREATE TABLE x (a Int8) ENGINE = File(CSV, '/tmp/x')",
            "SELECT * FROM executable('x.sh', TSV, 'a Int8')",
            "SELECT * FROM eval('SELECT 1')",
            "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '/etc/passwd'",
            "SELECT 1 FORMAT Protobuf SETTINGS `format_schema` = '/etc/passwd:x'",
            "CREATE DICTIONARY d (a UInt64) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id'))",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"SELECT file FROM t WHERE (file = 1)").is_ok());
    }
}
