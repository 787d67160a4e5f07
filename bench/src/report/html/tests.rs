use super::*;
use crate::report::tests::{awkward, report};

/// Names of the elements that are open where they should not be, or closed without being open.
fn unbalanced(page: &str) -> Vec<String> {
    const VOID: [&str; 3] = ["meta", "!doctype", "br"];
    let mut open: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let end = tag.find('>').expect("every tag ends");
        let (tag, after) = (&tag[..end], &tag[end + 1..]);
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap().to_owned();
        if tag.starts_with('/') {
            if open.pop().as_ref() != Some(&name) {
                wrong.push(name);
            }
        } else if !tag.ends_with('/') && !VOID.contains(&&*name) {
            // What stands in these is no markup.
            if ["style", "script"].contains(&&*name) {
                let close = format!("</{name}>");
                rest = &rest[rest.find(&close).expect("it is closed") + close.len()..];
            } else {
                open.push(name);
            }
        }
    }
    wrong.extend(open);
    wrong
}

#[test]
fn names_stay_text_and_every_element_is_closed() {
    let page = html(&awkward());
    assert_eq!(unbalanced(&page), Vec::<String>::new());
    assert!(page.contains("redis &lt;script&gt; &amp; co"));
    assert!(page.contains("&lt;b&gt;16&lt;/b&gt; &amp; &#39;more&#39;"));
    assert!(page.contains("a &lt;i&gt;rate&lt;/i&gt;"));
    assert_eq!(page.matches("<script").count(), 1, "only the page's own");
    assert_eq!(page.matches("</script").count(), 1, "only the page's own");
}

#[test]
fn a_page_asks_nobody_for_anything() {
    let page = html(&awkward());
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "@import", "url(", "fetch(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn numbers_that_are_none_are_not_drawn() {
    let page = html(&awkward());
    for wrong in ["NaN", "inf", "-0.0%"] {
        let numbers = page.split(['"', '>', '<', ' ', ',']).filter(|word| word.contains(wrong));
        let numbers: Vec<&str> = numbers.filter(|word| word.len() < wrong.len() + 4).collect();
        assert!(numbers.is_empty(), "{numbers:?}");
    }
}

#[test]
fn what_was_measured_and_what_failed_is_there() {
    let page = html(&awkward());
    assert!(page.contains("1 of 3 met"), "goals");
    assert!(page.contains("✗</span> missed") && page.contains("–</span> not measured"));
    assert!(page.contains("failed: it&#39;s | not &quot;installed&quot; &lt;/td&gt;"));
    assert!(page.contains("pipe &amp; line</th><td>no &lt;library&gt;</td>"));
    assert!(page.contains("no ceiling was measured"));
    // Case 0 has two curves, case 1 has only latencies of 0, case 2 one point, case 3 nobody.
    assert_eq!(page.matches("<figure").count(), 2);
    assert!(page.contains("all 1.5 us</title>"));
    assert_eq!(page.matches("lanecast bench run publish --case").count(), 4);
    assert!(page.contains("broker 500</span>"), "stages of the cost");
}

#[test]
fn every_curve_has_its_entry_in_the_legend() {
    let mut report = awkward();
    // A system without latencies between two that have some.
    report.cases[0].systems[0].curve = vec![(50.0, 0), (100.0, 0)];
    let page = html(&report);
    assert_eq!(page.matches("data-system=").count(), page.matches("<output>").count());
}

#[test]
fn a_report_of_nothing_is_a_page() {
    let page = html(&report(Vec::new()));
    assert_eq!(unbalanced(&page), Vec::<String>::new());
    assert!(page.contains("No case was measured"));
}

#[test]
fn every_label_points_at_something() {
    let page = html(&awkward());
    let labels = page.split("aria-labelledby=\"").skip(1);
    let ids = labels.flat_map(|rest| rest.split('"').next().unwrap().split(' '));
    for id in ids {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    for rest in page.split("href=\"#").skip(1) {
        let id = rest.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
}
