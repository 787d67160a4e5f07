//! What a request asks for: its SQL, parameters, settings and framing, out of URL and headers.

use hyper::{HeaderMap, Method, Uri};

use crate::access;
use crate::auth::Credentials;
use crate::exception::{Exception, code};
use crate::ffi::Param;
use crate::limits::PARAMETERS_MAX;
use crate::statement::syntax;

/// A request without its body.
#[derive(Default)]
pub(crate) struct Request {
    /// From `query=`.
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) database: Option<String>,
    pub(crate) default_format: Option<String>,
    pub(crate) query_id: Option<String>,
    /// Answer in ClickHouse's compressed blocks.
    pub(crate) compress: bool,
    /// The body is in ClickHouse's compressed blocks.
    pub(crate) decompress: bool,
    /// `Content-Encoding: lz4` was both accepted and asked for.
    pub(crate) lz4_encoding: bool,
    /// Answer only when all is done.
    pub(crate) wait_end: bool,
    /// GET may not write.
    pub(crate) reads_only: bool,
    /// Set when the body is `multipart/form-data`.
    pub(crate) multipart: Option<String>,
}

impl Request {
    pub(crate) fn read(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(Request, Credentials), Exception> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut request = Request {
            reads_only: method != Method::POST,
            database: text("x-clickhouse-database").map(str::to_owned),
            default_format: text("x-clickhouse-format").map(str::to_owned),
            multipart: text("content-type").and_then(multipart_boundary),
            ..Request::default()
        };
        if let Some(encoding) = text("content-encoding")
            && encoding != "identity"
        {
            return Err(Exception::new(
                code::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                format_args!("Content-Encoding {encoding} is not supported: use decompress=1"),
            ));
        }
        let lz4_accepted = text("accept-encoding").is_some_and(|value| {
            value.split(',').any(|one| one.trim().eq_ignore_ascii_case("lz4"))
        });
        let mut credentials = Credentials::default();
        let query = uri.query().unwrap_or("");
        for (count, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
            if count == PARAMETERS_MAX {
                return Err(bad_argument(format!("more than {PARAMETERS_MAX} parameters")));
            }
            match name.as_ref() {
                "user" => credentials.user = Some(value.into_owned()),
                "password" => credentials.password = Some(value.into_owned()),
                "enable_http_compression" => request.lz4_encoding = lz4_accepted && value == "1",
                _ => request.take(&name, value.into_owned())?,
            }
        }
        if !request.sql.is_empty() {
            request.sql.push('\n');
        }
        Ok((request, credentials))
    }

    /// One parameter of the URL, or one field of a form.
    pub(crate) fn take(&mut self, name: &str, value: String) -> Result<(), Exception> {
        match name {
            "query" => self.sql.push_str(&value),
            "database" => self.database = Some(value),
            "default_format" => self.default_format = Some(value),
            "query_id" => self.query_id = Some(value),
            "compress" => self.compress = value == "1",
            "decompress" => self.decompress = value == "1",
            "wait_end_of_query" => self.wait_end = value == "1",
            "buffer_size" | "quota_key" | "stacktrace" | "close_session" => {}
            "session_id" | "session_timeout" | "session_check" | "role" => {
                return Err(Exception::new(
                    code::NOT_IMPLEMENTED,
                    "NOT_IMPLEMENTED",
                    format_args!("{name} is not supported: this server has no sessions or roles"),
                ));
            }
            "client_protocol_version" if value != "0" => {
                return Err(Exception::new(
                    code::NOT_IMPLEMENTED,
                    "NOT_IMPLEMENTED",
                    "only client_protocol_version 0 is supported",
                ));
            }
            "client_protocol_version" => {}
            // Another dialect has other tokens than those that the gate looks for.
            "dialect" => return Err(bad_argument("dialect cannot be changed".to_owned())),
            _ if access::names_a_file(name.as_bytes()) => {
                return Err(bad_argument(format!("{name} cannot be changed: it names a file")));
            }
            _ => match name.strip_prefix("param_") {
                Some(param) => self.params.push((param.to_owned(), value)),
                None if is_name(name) => self.settings.push((name.to_owned(), value)),
                None => return Err(bad_argument(format!("{name:?} is not a setting's name"))),
            },
        }
        Ok(())
    }

    /// Takes the fields of a form.
    pub(crate) fn take_form(&mut self, body: &[u8], boundary: &str) -> Result<(), Exception> {
        for (count, field) in form_fields(body, boundary)?.into_iter().enumerate() {
            if count == PARAMETERS_MAX {
                return Err(bad_argument(format!("more than {PARAMETERS_MAX} fields")));
            }
            let value = String::from_utf8(field.value.to_vec())
                .map_err(|_| bad_argument(format!("form field {:?} is not UTF-8", field.name)))?;
            if field.is_file {
                return Err(Exception::new(
                    code::NOT_IMPLEMENTED,
                    "NOT_IMPLEMENTED",
                    format_args!("external table {:?}: not supported", field.name),
                ));
            }
            self.take(&field.name, value)?;
        }
        Ok(())
    }
}

fn bad_argument(text: String) -> Exception {
    Exception::new(code::BAD_ARGUMENTS, "BAD_ARGUMENTS", text)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn multipart_boundary(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"').to_owned())
    });
    Some(boundary.unwrap_or_default())
}

struct Field<'a> {
    name: String,
    is_file: bool,
    value: &'a [u8],
}

/// Splits a form (RFC 7578) into its fields.
fn form_fields<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, Exception> {
    let broken = || syntax("the multipart body is broken");
    if boundary.is_empty() {
        return Err(broken());
    }
    let opening = format!("--{boundary}");
    let separator = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(opening.as_bytes()).ok_or_else(broken)?;
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").ok_or_else(broken)?;
        let head_end = find(rest, b"\r\n\r\n").ok_or_else(broken)?;
        let (head, after) = (&rest[..head_end], &rest[head_end + 4..]);
        let value_end = find(after, separator.as_bytes()).ok_or_else(broken)?;
        let head = std::str::from_utf8(head).map_err(|_| broken())?;
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let disposition = disposition.ok_or_else(broken)?;
        let attribute = |wanted: &str| {
            disposition.split(';').find_map(|part| {
                let (name, value) = part.trim().split_once('=')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"').to_owned())
            })
        };
        fields.push(Field {
            name: attribute("name").ok_or_else(broken)?,
            is_file: attribute("filename").is_some(),
            value: &after[..value_end],
        });
        rest = &after[value_end + separator.len()..];
    }
    Ok(fields)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<Request, Exception> {
        Request::read(&Method::POST, &uri.parse().unwrap(), &HeaderMap::new()).map(|(r, _)| r)
    }

    #[test]
    fn url_is_taken_apart() {
        let request = read(
            "/?query=SELECT+%7Bx%3AInt8%7D&param_x=a%26b&database=d&max_threads=2&compress=1&decompress=1",
        )
        .unwrap();
        assert_eq!(request.sql, "SELECT {x:Int8}\n");
        assert_eq!(request.params, [("x".to_owned(), "a&b".to_owned())]);
        assert_eq!(request.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(request.database.as_deref(), Some("d"));
        assert!(request.compress && request.decompress);
    }

    #[test]
    fn what_is_not_supported_says_so() {
        for uri in
            ["/?session_id=a", "/?dialect=prql", "/?a%27%3Db=1", "/?client_protocol_version=54"]
        {
            assert!(read(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn forms_are_read() {
        let body =
            b"--XX\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT '\r\n'\r\n\
            --XX\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\n\r\n--XX--\r\n";
        let mut request = Request::default();
        request.take_form(body, "XX").unwrap();
        assert_eq!(request.sql, "SELECT '\r\n'");
        assert_eq!(request.params, [("a".to_owned(), String::new())]);
        for cut in 0..body.len() - 4 {
            assert!(Request::default().take_form(&body[..cut], "XX").is_err(), "cut at {cut}");
        }
        let file =
            b"--X\r\nContent-Disposition: form-data; name=\"t\"; filename=\"t\"\r\n\r\n1\r\n--X--";
        assert!(Request::default().take_form(file, "X").is_err());
    }
}
