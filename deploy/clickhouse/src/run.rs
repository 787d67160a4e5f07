//! One request from its SQL to its answer, on a thread that may block.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::auth::Role;
use crate::compression::Decoder;
use crate::engine::Engine;
use crate::exception::{Exception, code};
use crate::ffi::{Connection, Progress};
use crate::format::ChunkJoiner;
use crate::limits::{QUERY_BYTES_MAX, STATEMENT_PREFIX_BYTES};
use crate::reply::Answer;
use crate::request::Request;
use crate::statement::{self, Query, Statement, multi_statement, syntax};

/// The format of an answer when nobody names one.
const DEFAULT_FORMAT: &str = "TabSeparated";

/// What the body's reader passes on.
pub(crate) enum Piece {
    Data(Bytes),
    /// All of the body came.
    End,
    Failed(Exception),
}

/// A body, read from a thread.
pub(crate) struct BodyReader {
    pub(crate) pieces: mpsc::Receiver<Piece>,
    pub(crate) decoder: Option<Decoder>,
    ended: bool,
}

impl BodyReader {
    pub(crate) fn new(pieces: mpsc::Receiver<Piece>, decompress: bool) -> BodyReader {
        let decoder = decompress.then(Decoder::default);
        BodyReader { pieces, decoder, ended: false }
    }

    /// The next piece of plain data; `None` once all of it came. A body that breaks off is an error:
    /// what came of it must not be committed.
    fn next(&mut self) -> Result<Option<Bytes>, Exception> {
        loop {
            if let Some(decoder) = &mut self.decoder
                && let Some(block) = decoder.next()?
            {
                return Ok(Some(block));
            }
            if self.ended {
                return Ok(None);
            }
            match (self.pieces.blocking_recv(), &mut self.decoder) {
                (Some(Piece::Data(data)), Some(decoder)) => decoder.push(&data),
                (Some(Piece::Data(data)), None) => return Ok(Some(data)),
                (Some(Piece::End), decoder) => {
                    self.ended = true;
                    if let Some(decoder) = decoder {
                        decoder.finish()?;
                    }
                }
                (Some(Piece::Failed(exception)), _) => return Err(exception),
                (None, _) => return Err(body_broke_off("the client closed the connection")),
            }
        }
    }

    /// Reads on until `text` has at least `bytes` or the body ends; true when it ended.
    fn fill(&mut self, text: &mut BytesMut, bytes: usize) -> Result<bool, Exception> {
        while text.len() < bytes {
            match self.next()? {
                Some(data) => text.extend_from_slice(&data),
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// The client did not send all of its body.
pub(crate) fn body_broke_off(why: &str) -> Exception {
    Exception::new(
        code::NETWORK_ERROR,
        "NETWORK_ERROR",
        format_args!("The request's body broke off: {why}"),
    )
}

/// A request, ready to run.
pub(crate) struct Job {
    pub(crate) engine: Arc<Engine>,
    pub(crate) request: Request,
    pub(crate) role: Role,
    pub(crate) body: BodyReader,
    pub(crate) tag: String,
    pub(crate) query_seconds_max: u64,
}

/// A statement and, for an INSERT, the part of its data that was read with it.
enum Work {
    Query(Query),
    Insert { head: String, format: String, first: Bytes },
}

impl Job {
    /// Runs and answers.
    pub(crate) fn run(mut self, mut answer: Answer) {
        let began = Instant::now();
        if self.request.compress {
            answer.compress_blocks();
        } else if self.request.lz4_encoding {
            answer.compress_frame();
        }
        let tag = self.tag.clone();
        match self.work().and_then(|work| self.perform(work, &mut answer)) {
            Ok(Outcome::Whole { data, format, progress }) => answer.finish(data, &format, progress),
            Ok(Outcome::Streamed) => answer.end(),
            Ok(Outcome::Gone) => tracing::debug!(tag, "client left before its answer ended"),
            Err(exception) => {
                tracing::debug!(tag, %exception, "request failed");
                answer.fail(&exception);
            }
        }
        tracing::debug!(tag, elapsed_us = began.elapsed().as_micros() as u64, "request ended");
    }

    /// Puts the SQL together out of URL and body, and sees what it is.
    fn work(&mut self) -> Result<Work, Exception> {
        let mut body_ended = false;
        if let Some(boundary) = self.request.multipart.take() {
            let mut form = BytesMut::new();
            body_ended = self.body.fill(&mut form, QUERY_BYTES_MAX)?;
            if !body_ended {
                return Err(too_long());
            }
            self.request.take_form(&form, &boundary)?;
        }
        let mut text = BytesMut::from(self.request.sql.as_bytes());
        let mut wanted = match text.is_empty() {
            true => STATEMENT_PREFIX_BYTES,
            false => text.len(),
        };
        loop {
            if !body_ended && text.len() < wanted {
                body_ended = self.body.fill(&mut text, wanted)?;
            }
            let parsed = statement::parse(&text);
            match parsed {
                // The data may begin inside the prefix: no need to see the rest.
                Ok(Statement::Insert { head, format, data_at }) => {
                    let first = text.freeze().slice(data_at..);
                    if format.eq_ignore_ascii_case("values") {
                        statement::ends_values(&first)?;
                    }
                    return Ok(Work::Insert { head, format, first });
                }
                _ if text.len() > QUERY_BYTES_MAX => return Err(too_long()),
                parsed if body_ended => return self.whole(parsed?),
                // Not an INSERT with data so far: see all of the text.
                _ => wanted = (text.len() * 2).clamp(STATEMENT_PREFIX_BYTES, QUERY_BYTES_MAX + 1),
            }
        }
    }

    /// What the whole text is.
    fn whole(&self, parsed: Statement) -> Result<Work, Exception> {
        match parsed {
            Statement::Empty => Err(syntax("the query is empty")),
            Statement::Query(query) => Ok(Work::Query(query)),
            Statement::Insert { head, format, .. } => {
                Ok(Work::Insert { head, format, first: Bytes::new() })
            }
            Statement::InsertHead { head } => match &self.request.default_format {
                Some(format) => {
                    Ok(Work::Insert { head, format: format.clone(), first: Bytes::new() })
                }
                None => Err(syntax("the INSERT has neither FORMAT nor VALUES nor SELECT")),
            },
        }
    }

    fn perform(&mut self, work: Work, answer: &mut Answer) -> Result<Outcome, Exception> {
        let mut connection = self.engine.connect()?;
        self.prepare(&mut connection, &work)?;
        match work {
            Work::Query(query) => self.query(&mut connection, &query, answer),
            Work::Insert { head, format, first } => {
                self.insert(&mut connection, &head, &format, first)
            }
        }
    }

    /// Database and settings. The server's own come first; under readonly the engine then judges
    /// the client's.
    fn prepare(&self, connection: &mut Connection, work: &Work) -> Result<(), Exception> {
        let request = &self.request;
        if let Some(database) = request.database.as_deref().filter(|name| !name.is_empty()) {
            connection.query(&format!("USE {}", quoted(database, '`')), DEFAULT_FORMAT, &[])?;
        }
        let ceiling = self.query_seconds_max;
        let mut own = vec![("log_comment", self.tag.clone())];
        if let Work::Query(_) = work {
            own.push(("max_execution_time", ceiling.to_string()));
        }
        match (self.role, request.reads_only) {
            (Role::ReadOnly, _) => own.push(("readonly", "1".to_owned())),
            (Role::Full, true) => own.push(("readonly", "2".to_owned())),
            (Role::Full, false) => {}
        }
        set(connection, &own)?;
        let asked: Vec<(&str, String)> = request
            .settings
            .iter()
            .filter(|(name, _)| name != "log_comment")
            .map(|(name, value)| match name.as_str() {
                "max_execution_time" => (name.as_str(), seconds(value, ceiling)),
                name => (name, value.clone()),
            })
            .collect();
        set(connection, &asked)
    }

    fn insert(
        &mut self,
        connection: &mut Connection,
        head: &str,
        format: &str,
        first: Bytes,
    ) -> Result<Outcome, Exception> {
        one_statement(connection, &format!("{head} FORMAT {format}"))?;
        let mut stream = connection.insert(head, format, &self.request.params)?;
        if !first.is_empty() {
            stream.append(&first)?;
        }
        while let Some(data) = self.body.next()? {
            if !data.is_empty() {
                stream.append(&data)?;
            }
        }
        let progress = stream.finish()?;
        Ok(Outcome::Whole { data: Vec::new(), format: DEFAULT_FORMAT.to_owned(), progress })
    }

    fn query(
        &self,
        connection: &mut Connection,
        query: &Query,
        answer: &mut Answer,
    ) -> Result<Outcome, Exception> {
        let read_only = one_statement(connection, &query.sql)?;
        let params = &self.request.params;
        let format = query.format.as_deref().or(self.request.default_format.as_deref());
        let format = format.unwrap_or(DEFAULT_FORMAT);
        let joiner = ChunkJoiner::new(format);
        let streams = read_only && query.selects && !self.request.wait_end;
        let (Some(mut joiner), true) = (joiner, streams) else {
            let output = connection.query(&query.sql, format, params)?;
            let (data, progress) = (output.data, output.progress);
            return Ok(Outcome::Whole { data, format: format.to_owned(), progress });
        };
        let mut stream = connection.stream(&query.sql, format, params)?;
        // Two chunks ahead: a result of one is answered whole, with its length.
        let Some(mut held) = stream.next()? else {
            drop(stream);
            return self.empty(connection, query, format, &joiner);
        };
        while let Some(next) = stream.next()? {
            let output = std::mem::replace(&mut held, next);
            if answer.chunk(joiner.join(output.data), format, output.progress).is_err() {
                return Ok(Outcome::Gone);
            }
        }
        let data = joiner.join(held.data);
        if !answer.begun() {
            return Ok(Outcome::Whole { data, format: format.to_owned(), progress: held.progress });
        }
        match answer.chunk(data, format, held.progress) {
            Ok(()) => Ok(Outcome::Streamed),
            Err(_) => Ok(Outcome::Gone),
        }
    }

    /// A stream without rows has no chunk, also where the format has a header. Asking for the
    /// columns costs less than running the query once more.
    fn empty(
        &self,
        connection: &mut Connection,
        query: &Query,
        format: &str,
        joiner: &ChunkJoiner,
    ) -> Result<Outcome, Exception> {
        let (whole, format) = (&query.sql, format.to_owned());
        let progress = Progress::default();
        if joiner.empty_is_nothing() {
            return Ok(Outcome::Whole { data: Vec::new(), format, progress });
        }
        let params = &self.request.params;
        // FORMAT cannot stand in a subquery.
        if query.format.is_none() {
            let describe = format!("DESCRIBE TABLE (\n{whole}\n)");
            let described = connection.query(&describe, "RowBinaryWithNames", params);
            if let Ok(described) = described
                && let Some(data) = joiner.empty_result(&described.data)
            {
                return Ok(Outcome::Whole { data, format, progress });
            }
        }
        let output = connection.query(whole, &format, params)?;
        Ok(Outcome::Whole { data: output.data, format, progress: output.progress })
    }
}

enum Outcome {
    Whole { data: Vec<u8>, format: String, progress: Progress },
    Streamed,
    Gone,
}

/// The engine's parser has the last word on how many statements a text holds. True when it only
/// reads. A text that it cannot parse passes: running it gives the syntax error.
fn one_statement(connection: &mut Connection, sql: &str) -> Result<bool, Exception> {
    match connection.classify(sql) {
        Some(analysis) if analysis.statement_count > 1 => Err(multi_statement()),
        Some(analysis) => Ok(analysis.read_only),
        None => Err(Exception::no_result()),
    }
}

fn set(connection: &mut Connection, settings: &[(&str, String)]) -> Result<(), Exception> {
    if settings.is_empty() {
        return Ok(());
    }
    let pairs: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name} = {}", quoted(value, '\''))).collect();
    connection.query(&format!("SET {}", pairs.join(", ")), DEFAULT_FORMAT, &[])?;
    Ok(())
}

/// `text` as a literal or a name, whatever it contains.
fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        if c == quote || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push(quote);
    out
}

/// A client's `max_execution_time`, at most the server's; 0 means no limit to ClickHouse.
fn seconds(asked: &str, ceiling: u64) -> String {
    match asked.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= ceiling as f64 => asked.to_owned(),
        Ok(_) => ceiling.to_string(),
        // The engine says what is wrong with it.
        Err(_) => asked.to_owned(),
    }
}

fn too_long() -> Exception {
    syntax(&format!("Max query size exceeded: at most {QUERY_BYTES_MAX} bytes of SQL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(quoted("a'b\\", '\''), "'a\\'b\\\\'");
        assert_eq!(quoted("d`;", '`'), "`d\\`;`");
    }

    #[test]
    fn execution_time_has_a_ceiling() {
        assert_eq!(seconds("2.5", 300), "2.5");
        assert_eq!(seconds("0", 300), "300");
        assert_eq!(seconds("1e9", 300), "300");
        assert_eq!(seconds("x", 300), "x");
    }
}
