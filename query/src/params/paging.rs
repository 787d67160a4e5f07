//! Which page of an ordered list is asked for.

use super::cursor::{Cursor, CursorError, Fingerprint, Position};
use super::window::Window;
use super::{Arguments, ParameterError, Sort, table};
use crate::limits;

/// A page, by number or by cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    /// Rows at most, 1 or more.
    pub limit: u32,
    /// Number of this page, from 1.
    pub page: u32,
    pub sort: Sort,
    pub filters: Fingerprint,
    /// Where the page before ended, when a cursor was sent.
    pub after: Option<Cursor>,
}

impl Paging {
    /// Reads limit, page, sort and cursor. `question` is all else that the order of rows depends
    /// on; a cursor of another question is refused.
    pub(crate) fn read(
        arguments: &Arguments,
        limit_default: u32,
        question: &[&str],
    ) -> Result<Self, ParameterError> {
        let limit = arguments.whole(&table::LIMIT).map_or(limit_default, narrow);
        let sort = match arguments.choice(&table::SORT) {
            Some("desc") => Sort::Descending,
            Some(_) | None => Sort::Ascending,
        };
        let filters = Fingerprint::of(question.iter().copied().chain([sort.name()]));
        let number = arguments.whole(&table::PAGE).map(narrow);
        let Some(text) = arguments.text(&table::CURSOR) else {
            let page = number.unwrap_or(1);
            if u64::from(page) * u64::from(limit) > limits::PAGE_DEPTH_MAX {
                let reason = format!(
                    "page * limit is over {}; walk on with cursor: send next_cursor of each \
                     answer as cursor of the next request",
                    limits::PAGE_DEPTH_MAX
                );
                return Err(ParameterError::new("page", reason));
            }
            return Ok(Self { limit, page, sort, filters, after: None });
        };
        if number.is_some() {
            return Err(ParameterError::new("page", "cannot go with cursor; leave one out"));
        }
        let cursor = Cursor::decode(text).and_then(|cursor| {
            let same = cursor.filters == filters && cursor.sort == sort;
            if same { Ok(cursor) } else { Err(CursorError::OtherQuestion) }
        });
        let cursor = cursor.map_err(|error| ParameterError::new("cursor", error.to_string()))?;
        Ok(Self { limit, page: cursor.page, sort, filters, after: Some(cursor) })
    }

    /// Rows that a page by number skips; none where a cursor says where to start.
    pub(crate) fn offset(&self) -> u32 {
        if self.after.is_some() { 0 } else { (self.page - 1) * self.limit }
    }

    /// Does nothing come before this page?
    pub(crate) fn is_first(&self) -> bool {
        self.after.is_none() && self.page == 1
    }

    /// The cursor of the page after this one, which ends at `position`.
    pub(crate) fn next(&self, window: Window, position: Position) -> Cursor {
        Cursor {
            sort: self.sort,
            page: self.page.saturating_add(1),
            filters: self.filters,
            window,
            position,
        }
    }
}

/// Whole parameters have maxima far below `u32`, which the parser has checked.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("the parameter's maximum is below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&super::super::Parameter; 4] =
        [&table::LIMIT, &table::PAGE, &table::SORT, &table::CURSOR];

    fn read(query: &str) -> Result<Paging, ParameterError> {
        let arguments = Arguments::parse(Some(query), &ALL).unwrap();
        Paging::read(&arguments, 100, &["gpus"])
    }

    fn cursor(query: &str) -> String {
        let window = Window { start_ms: None, end_ms: None };
        let position = Position::Gpu { uuid: "GPU-1".to_owned() };
        read(query).unwrap().next(window, position).encode()
    }

    #[test]
    fn page_numbers_turn_into_offsets() {
        let paging = read("limit=20&page=3").unwrap();
        assert_eq!((paging.limit, paging.page, paging.offset()), (20, 3, 40));
        assert_eq!(read("").unwrap().offset(), 0);
    }

    #[test]
    fn deep_pages_are_refused_and_the_cursor_is_named() {
        assert!(read("limit=1000&page=100").is_ok());
        let error = read("limit=1000&page=101").unwrap_err();
        assert_eq!(error.param, "page");
        assert!(error.reason.contains("cursor"), "{}", error.reason);
    }

    #[test]
    fn cursor_goes_on_counting_pages() {
        let paging = read(&format!("limit=5&cursor={}", cursor("page=4"))).unwrap();
        assert_eq!((paging.page, paging.offset()), (5, 0));
    }

    #[test]
    fn cursor_of_another_sort_or_question_is_refused() {
        let cursor = cursor("");
        assert!(read(&format!("cursor={cursor}")).is_ok());
        assert_eq!(read(&format!("sort=desc&cursor={cursor}")).unwrap_err().param, "cursor");
        let query = format!("cursor={cursor}");
        let arguments = Arguments::parse(Some(&query), &ALL).unwrap();
        assert_eq!(Paging::read(&arguments, 100, &["other"]).unwrap_err().param, "cursor");
    }

    #[test]
    fn page_and_cursor_exclude_each_other() {
        assert_eq!(read(&format!("page=2&cursor={}", cursor(""))).unwrap_err().param, "page");
    }
}
