//! The `csv` crate as the judge of well-formed input.

use proptest::prelude::*;

use crate::drain::read_with;

proptest! {
    #[test]
    fn well_formed_files_read_as_the_csv_crate_wrote_them(
        rows in proptest::collection::vec(
            ("[a-z\", \u{e9}\r\n-]{1,12}", "[A-Z_\",;]{1,8}", -1e9_f64..1e9, "[a-z\"\n,]{0,9}"),
            0..30,
        ),
        crlf in any::<bool>(),
        always in any::<bool>(),
    ) {
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut writer =
            csv::WriterBuilder::new().terminator(terminator).quote_style(style).from_writer(vec![]);
        writer.write_record(["uuid", "metric", "value", "host"]).unwrap();
        for (uuid, metric, value, host) in &rows {
            writer.write_record([uuid, metric, &value.to_string(), host]).unwrap();
        }
        let (found, stats, _) = read_with(&writer.into_inner().unwrap(), |_| {});
        prop_assert_eq!(stats.rows_rejected.total(), 0);
        prop_assert_eq!(found.len(), rows.len());
        for (sample, (uuid, metric, value, host)) in found.iter().zip(&rows) {
            prop_assert_eq!(&sample.uuid, uuid);
            prop_assert_eq!(&sample.metric, metric);
            prop_assert_eq!(sample.value, *value);
            prop_assert_eq!(&sample.hostname, host);
        }
    }

    #[test]
    fn any_bytes_under_a_header_are_read_to_the_end(
        garbage in proptest::collection::vec(
            prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), Just(b'G'), any::<u8>()],
            0..400,
        ),
    ) {
        let mut text = b"uuid,metric,value\n".to_vec();
        text.extend_from_slice(&garbage);
        let (found, stats, failure) = read_with(&text, |_| {});
        prop_assert!(failure.is_none());
        let rows = found.len() as u64 + stats.rows_rejected.total() + stats.dropped_blank;
        prop_assert_eq!(stats.rows_read, rows);
    }
}
