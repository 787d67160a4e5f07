//! What the official client does, one kind of request per test.

use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};

use crate::support::{code, fresh};

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(crate) struct Reading {
    id: u32,
    name: String,
    value: f64,
}

pub(crate) fn readings(count: u32) -> Vec<Reading> {
    (0..count)
        .map(|id| Reading { id, name: format!("gpu-{}", id % 7), value: f64::from(id) / 4.0 })
        .collect()
}

pub(crate) async fn table(client: &Client) {
    client
        .query(
            "CREATE TABLE readings (id UInt32, name LowCardinality(String), value Float64) \
             ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100",
        )
        .execute()
        .await
        .unwrap();
}

pub(crate) async fn insert(client: &Client, rows: &[Reading]) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Reading>("readings").await?;
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}

async fn all(client: &Client) -> Vec<Reading> {
    client.query("SELECT ?fields FROM readings ORDER BY id").fetch_all().await.unwrap()
}

pub(crate) async fn count(client: &Client) -> u64 {
    client.query("SELECT count() FROM readings").fetch_one().await.unwrap()
}

/// `rows` numbered readings as the server renders them in `format`.
async fn rendered(client: &Client, rows: u32, format: &str) -> bytes::Bytes {
    let sql = format!(
        "SELECT toUInt32(number) AS id, toLowCardinality(concat('gpu-', toString(id % 7))) AS name, \
         id / 4 AS value FROM numbers({rows})"
    );
    client.query(&sql).fetch_bytes(format).unwrap().collect().await.unwrap()
}

#[tokio::test]
async fn rows_come_back_as_they_were_written_with_and_without_compression() {
    for (validation, compression) in [
        (true, Compression::Lz4),
        (true, Compression::None),
        (false, Compression::Lz4),
        (false, Compression::None),
    ] {
        let client = fresh().await.with_compression(compression).with_validation(validation);
        table(&client).await;
        insert(&client, &readings(1000)).await.unwrap();
        assert_eq!(all(&client).await, readings(1000));
    }
}

#[tokio::test]
async fn formatted_data_is_taken_whole_or_in_pieces() {
    for compression in [Compression::Lz4, Compression::None] {
        for format in ["Native", "RowBinary", "RowBinaryWithNamesAndTypes", "JSONEachRow", "CSV"] {
            for piece in [64 * 1024 * 1024, 997] {
                let client = fresh().await.with_compression(compression);
                table(&client).await;
                let data = rendered(&client, 5000, format).await;
                let sql = format!("INSERT INTO readings FORMAT {format}");
                let mut insert = client.insert_formatted_with(sql);
                for at in (0..data.len()).step_by(piece) {
                    let end = data.len().min(at + piece);
                    insert.send(data.slice(at..end)).await.unwrap();
                }
                insert.end().await.unwrap();
                assert_eq!(all(&client).await, readings(5000), "{format} by {piece}");
            }
        }
    }
}

#[tokio::test]
async fn values_and_select_insert_too() {
    let client = fresh().await;
    table(&client).await;
    client
        .query("INSERT INTO readings VALUES (0, 'gpu-0', 0), (?, ?, ?)")
        .bind(1)
        .bind("gpu-1")
        .bind(0.25)
        .execute()
        .await
        .unwrap();
    client
        .query("INSERT INTO readings (id, value, name) SELECT id + 2, (id + 2) / 4, 'gpu-' || toString(id + 2) FROM readings")
        .execute()
        .await
        .unwrap();
    assert_eq!(all(&client).await, readings(4));
}

#[tokio::test]
async fn unknown_names_have_their_codes() {
    let client = fresh().await;
    let unknown = client.query("SELECT 1 FROM nothing").execute().await.unwrap_err();
    assert_eq!(code(&unknown), Some(60), "{unknown}");
    let syntax = client.query("SELEC 1").execute().await.unwrap_err();
    assert_eq!(code(&syntax), Some(62), "{syntax}");
    let database = client.clone().with_database("nowhere");
    let database = database.query("SELECT 1").execute().await.unwrap_err();
    assert_eq!(code(&database), Some(81), "{database}");
    let setting = client.query("SELECT 1").with_setting("no_such_setting", "1").execute().await;
    assert_eq!(code(&setting.unwrap_err()), Some(115));
}

#[tokio::test]
async fn refused_inserts_say_why_however_much_was_sent() {
    let client = fresh().await;
    table(&client).await;
    let missing = client.insert_formatted_with("INSERT INTO nothing FORMAT CSV");
    let mut missing = missing.buffered();
    // More than fits between the client and the table that is not there.
    let line = "1,a,2\n".repeat(100_000);
    for _ in 0..20 {
        missing.write_buffered(line.as_bytes());
        if missing.flush().await.is_err() {
            break;
        }
    }
    let error = missing.end().await.unwrap_err();
    assert_eq!(code(&error), Some(60), "{error}");

    let mut broken = client.insert_formatted_with("INSERT INTO readings FORMAT CSV");
    broken.send("1,a,2\nx,b,3\n".into()).await.unwrap();
    let error = broken.end().await.unwrap_err();
    assert!(matches!(code(&error), Some(6 | 27 | 72 | 117)), "{error}");
    assert_eq!(count(&client).await, 0);
}

#[tokio::test]
async fn an_insert_that_is_dropped_writes_nothing() {
    let client = fresh().await;
    table(&client).await;
    let data = rendered(&client, 5000, "Native").await;
    let mut insert = client.insert_formatted_with("INSERT INTO readings FORMAT Native");
    insert.send(data).await.unwrap();
    drop(insert);
    insert_and_settle(&client).await;
    assert_eq!(count(&client).await, 1);
}

/// One row by another request, after whose answer an earlier abort has been seen as well.
async fn insert_and_settle(client: &Client) {
    insert(client, &readings(1)).await.unwrap();
}

#[tokio::test]
async fn parameters_are_bound_by_the_server() {
    let client = fresh().await;
    let hostile = "x'); DROP TABLE readings; -- \\ \" ` \t ü";
    let (text, number): (String, u64) = client
        .query("SELECT {text:String}, {number:UInt64}")
        .param("text", hostile)
        .param("number", 42_u64)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!((text.as_str(), number), (hostile, 42));
    table(&client).await;
    let name: Vec<String> = client
        .query("SELECT name FROM {table:Identifier}")
        .param("table", "readings")
        .fetch_all()
        .await
        .unwrap();
    assert!(name.is_empty());
    let missing = client.query("SELECT {text:String}").execute().await.unwrap_err();
    assert_eq!(code(&missing), Some(456), "{missing}");
}

#[tokio::test]
async fn large_results_stream() {
    for validation in [true, false] {
        let client = fresh().await.with_validation(validation);
        let mut cursor = client
            .query("SELECT number, toString(number) FROM numbers(1000000)")
            .fetch::<(u64, String)>()
            .unwrap();
        let mut expected = 0;
        while let Some((number, text)) = cursor.next().await.unwrap() {
            assert_eq!(number, expected);
            assert_eq!(text.parse(), Ok(expected));
            expected += 1;
        }
        assert_eq!(expected, 1_000_000);
    }
}

#[tokio::test]
async fn an_error_in_mid_stream_is_an_error_and_not_an_end() {
    let client = fresh().await;
    let mut cursor = client
        .query("SELECT number, throwIf(number = 900000) FROM numbers(1000000)")
        .with_setting("max_threads", "1")
        .fetch::<(u64, u8)>()
        .unwrap();
    let mut rows = 0_u64;
    let error = loop {
        match cursor.next().await {
            Ok(Some((number, _))) => {
                assert_eq!(number, rows);
                rows += 1;
            }
            Ok(None) => panic!("it ended after {rows} rows as if that were all"),
            Err(error) => break error,
        }
    };
    assert_eq!(code(&error), Some(395), "{error}");
    assert!(rows > 0 && rows < 900_000, "{rows}");
}

#[tokio::test]
async fn empty_results_are_no_rows() {
    for validation in [true, false] {
        let client = fresh().await.with_validation(validation);
        table(&client).await;
        assert!(all(&client).await.is_empty());
        let none = client.query("SELECT ?fields FROM readings").fetch_optional::<Reading>();
        assert_eq!(none.await.unwrap(), None);
        let text = client.query("SELECT id FROM readings").fetch_bytes("CSVWithNames").unwrap();
        assert_eq!(text_of(text).await, "\"id\"\n");
    }
}

async fn text_of(mut cursor: clickhouse::query::BytesCursor) -> String {
    String::from_utf8(cursor.collect().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn formats_with_a_frame_or_a_header_come_once() {
    let client = fresh().await;
    let sql = "SELECT number FROM numbers(200000)";
    for (format, first, lines) in [
        ("TSVWithNames", "number", 200_001),
        ("CSVWithNamesAndTypes", "\"number\"", 200_002),
        ("JSONEachRow", "{\"number\":0}", 200_000),
        ("JSONCompactEachRowWithNames", "[\"number\"]", 200_001),
    ] {
        let text = text_of(client.query(sql).fetch_bytes(format).unwrap()).await;
        assert_eq!(text.lines().next(), Some(first), "{format}");
        assert_eq!(text.lines().count(), lines, "{format}");
    }
    let json = text_of(client.query(sql).fetch_bytes("JSONCompact").unwrap()).await;
    assert!(json.contains("\"rows\": 200000,"), "{}", &json[json.len() - 200..]);
    let named = client.query(&format!("{sql} FORMAT TSV")).fetch_bytes("CSV").unwrap();
    assert_eq!(text_of(named).await.lines().count(), 200_000);
}

#[tokio::test]
async fn tables_can_be_described() {
    let client = fresh().await;
    table(&client).await;
    let described = client.query("DESCRIBE TABLE readings").fetch_bytes("TSV").unwrap();
    let described = text_of(described).await;
    let columns: Vec<Vec<&str>> =
        described.lines().map(|line| line.split('\t').take(2).collect()).collect();
    assert_eq!(
        columns,
        [["id", "UInt32"], ["name", "LowCardinality(String)"], ["value", "Float64"]]
    );
}

#[tokio::test]
async fn readonly_requests_cannot_write() {
    let client = fresh().await;
    table(&client).await;
    let readonly = client.clone().with_setting("readonly", "1");
    assert_eq!(count(&readonly).await, 0);
    let insert = insert(&readonly, &readings(1)).await.unwrap_err();
    assert_eq!(code(&insert), Some(164), "{insert}");
    for sql in ["DROP TABLE readings", "INSERT INTO readings VALUES (1, 'a', 1)"] {
        let error = readonly.query(sql).execute().await.unwrap_err();
        assert_eq!(code(&error), Some(164), "{error}");
    }
    let undone = readonly.query("SELECT 1 SETTINGS readonly = 0").execute().await.unwrap_err();
    assert_eq!(code(&undone), Some(164), "{undone}");
    assert_eq!(count(&client).await, 0);
}

#[tokio::test]
async fn requests_at_once_keep_their_parameters_and_rows_apart() {
    let client = fresh().await;
    table(&client).await;
    let tasks: Vec<_> = (0..16_u32)
        .map(|id| {
            let client = client.clone();
            tokio::spawn(async move {
                let row = Reading { id, name: format!("gpu-{id}"), value: 0.5 };
                insert(&client, &[row]).await.unwrap();
                for round in 0..5_u32 {
                    let own: u32 = client
                        .query("SELECT toUInt32({x:UInt32} + {round:UInt32})")
                        .param("x", id * 100)
                        .param("round", round)
                        .fetch_one()
                        .await
                        .unwrap();
                    assert_eq!(own, id * 100 + round);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count(&client).await, 16);
}
