//! What one core takes and answers when it looks at nothing: the ceiling of acknowledgements that wait for
//! no disk.

use crate::load::{self, BarePublisher, Batches, Completion, Fleet, Idle, Load};
use crate::server::{Echo, dial};
use crate::{Contender, Role, Settings, cpu};

/// The same load as the others of its case have.
pub(super) fn bare_answer<'a>(
    settings: &'a Settings,
    batches: Batches,
    connections: u32,
    load: Load,
    idle: Idle,
) -> Contender<'a> {
    Contender::new("echo", Role::Ceiling, "received, and nothing else", move || {
        let echo = Echo::start(cpu::cores()[0], connections, batches.bytes())?;
        let mut fleet = Fleet::of(&batches);
        for _ in 0..connections {
            let publisher = BarePublisher::answered(&batches);
            fleet.publishers.push((dial(echo.addr())?, Box::new(publisher)));
        }
        let plan = super::plan(settings, load, Completion::Acknowledged, idle);
        let cpu = || vec![("echo".to_owned(), echo.cpu())];
        super::on_last_core(|| load::run(&plan, fleet, &cpu))
    })
}
