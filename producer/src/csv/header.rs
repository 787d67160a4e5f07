//! Finds out which column is what, by the names in the header.
//!
//! Names are compared without regard to case, blanks, `_` and `-`, so `modelName`, `model_name`
//! and `Model Name` are one. Columns may stand in any order; unknown ones are ignored in the long
//! layout (one row per sample) and are metrics in the wide one (one row per GPU and time).

/// What a column can hold other than a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Timestamp,
    Metric,
    GpuIndex,
    Device,
    Uuid,
    Model,
    Hostname,
    Container,
    Pod,
    Namespace,
    Value,
    Labels,
}

const ROLES: [(Role, &[&str]); 12] = [
    (Role::Timestamp, &["timestamp", "time", "ts", "datetime"]),
    (Role::Metric, &["metric_name", "metric", "__name__", "name"]),
    (Role::GpuIndex, &["gpu_id", "gpu", "gpu_index", "index"]),
    (Role::Device, &["device"]),
    (Role::Uuid, &["uuid", "gpu_uuid"]),
    (Role::Model, &["modelName", "model", "gpu_model"]),
    (Role::Hostname, &["Hostname", "host", "node"]),
    (Role::Container, &["container", "container_name"]),
    (Role::Pod, &["pod", "pod_name"]),
    (Role::Namespace, &["namespace"]),
    (Role::Value, &["value", "metric_value"]),
    (Role::Labels, &["labels_raw", "labels"]),
];

/// Column numbers by what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// In the order of [`Role`].
    columns: [Option<usize>; ROLES.len()],
    pub(crate) names: Vec<String>,
    pub(crate) layout: Layout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One sample a row.
    Long { metric: usize, value: usize },
    /// One column per metric.
    Wide { metrics: Vec<usize> },
}

impl Header {
    /// # Errors
    /// The reason why rows under this header cannot be read, naming what was found and what is
    /// accepted.
    pub(crate) fn parse(fields: Vec<String>, needs_time: bool) -> Result<Self, String> {
        let mut names = fields;
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        let plain: Vec<String> = names.iter().map(|name| simplified(name)).collect();
        for (at, name) in plain.iter().enumerate() {
            if !name.is_empty() && plain[..at].contains(name) {
                return Err(format!("column {:?} is there twice", names[at]));
            }
        }
        let columns = ROLES.map(|(_, accepted)| {
            accepted.iter().find_map(|alias| {
                let alias = simplified(alias);
                plain.iter().position(|name| *name == alias)
            })
        });
        let found = |role: Role| columns[role as usize];
        let missing = |role: Role| {
            let accepted = ROLES[role as usize].1.join(", ");
            format!("no column {accepted} (any case); it names {}", names.join(", "))
        };
        if found(Role::Uuid).is_none() && found(Role::GpuIndex).is_none() {
            return Err(missing(Role::Uuid));
        }
        if needs_time && found(Role::Timestamp).is_none() {
            return Err(missing(Role::Timestamp) + ", and only timestamps = now needs none");
        }
        let layout = match (found(Role::Metric), found(Role::Value)) {
            (Some(metric), Some(value)) => Layout::Long { metric, value },
            (Some(_), None) => return Err(missing(Role::Value)),
            (None, Some(_)) => return Err(missing(Role::Metric)),
            (None, None) => {
                let metrics = metric_columns(&names, &plain);
                if metrics.is_empty() {
                    return Err(missing(Role::Metric) + ", and no column per metric either");
                }
                Layout::Wide { metrics }
            }
        };
        Ok(Header { columns, names, layout })
    }

    pub(crate) fn column(&self, role: Role) -> Option<usize> {
        self.columns[role as usize]
    }

    /// Every column that says who a sample belongs to.
    pub(crate) fn identity_columns(&self) -> Vec<usize> {
        let roles = [
            Role::GpuIndex,
            Role::Device,
            Role::Uuid,
            Role::Model,
            Role::Hostname,
            Role::Container,
            Role::Pod,
            Role::Namespace,
        ];
        roles.into_iter().filter_map(|role| self.column(role)).collect()
    }
}

/// Unknown columns of a wide file: those of DCGM when there are any, else all with a name.
fn metric_columns(names: &[String], plain: &[String]) -> Vec<usize> {
    let is_known = |name: &String| {
        ROLES.iter().any(|(_, accepted)| accepted.iter().any(|alias| simplified(alias) == *name))
    };
    let unknown: Vec<usize> =
        (0..names.len()).filter(|at| !plain[*at].is_empty() && !is_known(&plain[*at])).collect();
    let dcgm: Vec<usize> =
        unknown.iter().copied().filter(|at| plain[*at].starts_with("dcgmfi")).collect();
    if dcgm.is_empty() { unknown } else { dcgm }
}

fn simplified(name: &str) -> String {
    let kept = name.chars().filter(|c| !matches!(c, '_' | '-') && !c.is_whitespace());
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(names: &str) -> Result<Header, String> {
        Header::parse(names.split(',').map(str::to_owned).collect(), true)
    }

    #[test]
    fn role_numbers_are_places_in_the_table() {
        for (at, (role, _)) in ROLES.iter().enumerate() {
            assert_eq!(*role as usize, at);
        }
    }

    #[test]
    fn columns_are_found_in_any_order_case_and_spelling() {
        let header =
            header("\u{feff}VALUE,Model_Name,UUID,Metric-Name,time,host,Labels,extra").unwrap();
        assert_eq!(header.layout, Layout::Long { metric: 3, value: 0 });
        assert_eq!(header.column(Role::Model), Some(1));
        assert_eq!(header.column(Role::Uuid), Some(2));
        assert_eq!(header.column(Role::Timestamp), Some(4));
        assert_eq!(header.column(Role::Hostname), Some(5));
        assert_eq!(header.column(Role::Labels), Some(6));
        assert_eq!(header.column(Role::Pod), None);
    }

    #[test]
    fn first_alias_wins_where_a_file_has_two() {
        let header = header("timestamp,gpu,gpu_id,uuid,metric,value").unwrap();
        assert_eq!(header.column(Role::GpuIndex), Some(2));
    }

    #[test]
    fn wide_layout_takes_dcgm_columns_or_else_every_unknown_one() {
        let wide = header("ts,uuid,DCGM_FI_DEV_GPU_UTIL,note,DCGM_FI_DEV_GPU_TEMP").unwrap();
        assert_eq!(wide.layout, Layout::Wide { metrics: vec![2, 4] });
        let wide = header("ts,uuid,util,temp").unwrap();
        assert_eq!(wide.layout, Layout::Wide { metrics: vec![2, 3] });
    }

    #[test]
    fn unusable_header_says_what_is_missing_what_was_found_and_what_is_accepted() {
        let error = header("timestamp,host,metric,value").unwrap_err();
        assert!(error.contains("uuid, gpu_uuid"), "{error}");
        assert!(error.contains("timestamp, host, metric, value"), "{error}");
        assert!(header("ts,uuid,metric").unwrap_err().contains("metric_value"));
        assert!(header("ts,uuid,value").unwrap_err().contains("metric_name"));
        assert!(header("uuid,metric,value").unwrap_err().contains("timestamp"));
        assert!(header("ts,uuid").unwrap_err().contains("no column per metric"));
        assert!(header("ts,uuid,UUID,metric,value").unwrap_err().contains("twice"));
    }
}
