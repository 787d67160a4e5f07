//! The keys that `--gpu`, `--host` and `--key` name.

use lanecast_client::KeyFilter;

use crate::settings::{SettingError, Settings, table};

pub(super) fn of(settings: &Settings) -> Result<KeyFilter, SettingError> {
    let none = KeyFilter::default();
    let gpus = settings.list(&table::FILTER_GPU).fold(none, KeyFilter::gpu);
    let hosts = settings.list(&table::FILTER_HOST).fold(gpus, KeyFilter::host);
    let filter = settings.list(&table::FILTER_KEY).fold(hosts, KeyFilter::message_key);
    let refused = |text: String| settings.refused(&table::FILTER_GPU, text);
    filter.check().map_err(|refusal| refused(refusal.message))?;
    Ok(filter)
}
