//! Both ends of a JetStream stream.

use super::text::{SYSTEM, Said, said};
use crate::Error;
use crate::load::{BatchName, Outgoing, Publisher, Subscriber};
use crate::peer::kept::Kept;
use crate::peer::repeated::Acknowledged;
use crate::peer::{Payload, Repeated};

/// Messages that a connection may have without an acknowledgement: NATS' own clients stop there.
const UNACKNOWLEDGED_MAX: u32 = 4000;

pub(super) struct NatsPublisher {
    batches: Repeated,
    records: u32,
    kept: Kept,
    acknowledged: Acknowledged,
}

impl NatsPublisher {
    pub(super) fn new(number: u32, records: u32, payload: &Payload, inbox: &str) -> Self {
        let before = format!("PUB bench {inbox} {}\r\n", payload.bytes().len());
        let batches = Repeated::new(number, records, before.as_bytes(), payload, b"\r\n");
        let (kept, acknowledged) = (Kept::default(), Acknowledged::new(records));
        Self { batches, records, kept, acknowledged }
    }
}

impl Publisher for NatsPublisher {
    fn publish(&mut self, out: &mut Outgoing) {
        self.batches.publish(out);
    }

    fn receive(&mut self, bytes: &[u8], out: &mut Outgoing) -> Result<u32, Error> {
        let mut records = 0;
        self.kept.each(bytes, |bytes| {
            let Some((said, used)) = said(bytes)? else { return Ok(None) };
            match said {
                Said::Message { headers: b"", payload, .. }
                    if payload.starts_with(b"{\"stream\"") =>
                {
                    records += 1;
                }
                Said::Message { headers, payload, .. } => {
                    let detail = [headers, payload].map(String::from_utf8_lossy).concat();
                    return Err(Error::Refused { system: SYSTEM, detail });
                }
                Said::Ping => out.small(b"PONG\r\n"),
                Said::Other => {}
            }
            Ok(Some(used))
        })?;
        Ok(self.acknowledged.add(records))
    }

    fn window(&self) -> u32 {
        (UNACKNOWLEDGED_MAX / self.records).max(1)
    }
}

#[derive(Default)]
pub(super) struct NatsSubscriber {
    kept: Kept,
}

impl Subscriber for NatsSubscriber {
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Outgoing,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error> {
        self.kept.each(bytes, |bytes| {
            let Some((said, used)) = said(bytes)? else { return Ok(None) };
            match said {
                Said::Message { headers: b"", payload, .. } => {
                    if let Some(name) = Payload::ends(payload) {
                        delivered(name);
                    }
                }
                // Flow control: it sends on once this is answered. A heartbeat wants no answer.
                Said::Message { reply: Some(reply), .. } => {
                    out.small(b"PUB ");
                    out.small(reply);
                    out.small(b" 0\r\n\r\n");
                }
                Said::Message { reply: None, .. } | Said::Other => {}
                Said::Ping => out.small(b"PONG\r\n"),
            }
            Ok(Some(used))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_acknowledged_with_the_last_of_its_messages() {
        let payload = Payload::new(128).unwrap();
        let mut publisher = NatsPublisher::new(0, 2, &payload, "_INBOX.a");
        let mut out = Outgoing::default();
        publisher.publish(&mut out);
        let ack = b"MSG _INBOX.a 1 27\r\n{\"stream\":\"BENCH\",\"seq\":12}\r\n";
        assert_eq!(publisher.receive(ack, &mut out).unwrap(), 0);
        assert_eq!(publisher.receive(ack, &mut out).unwrap(), 1);
        let refusal = b"MSG _INBOX.a 1 27\r\n{\"error\":{\"code\":503,\"a\":\"b\"}\r\n";
        assert!(matches!(publisher.receive(refusal, &mut out), Err(Error::Refused { .. })));
    }

    #[test]
    fn deliveries_name_batches_and_flow_control_is_answered() {
        let mut subscriber = NatsSubscriber::default();
        let (mut out, mut names) = (Outgoing::default(), Vec::new());
        let message = [&b"MSG _I 1 $JS.ACK.x 12\r\n"[..], &Payload::name(1, 2), b"\r\n"].concat();
        subscriber.receive(&message, &mut out, &mut |name| names.push(name)).unwrap();
        assert_eq!(names, [BatchName { publisher: 1, number: 2 }]);
        assert!(out.is_empty());
        let control = b"HMSG _I 1 $JS.FC.x 36 36\r\nNATS/1.0 100 FlowControl Request\r\n\r\n\r\n";
        subscriber.receive(control, &mut out, &mut |_| ()).unwrap();
        assert_eq!(&out.tail()[..], b"PUB $JS.FC.x 0\r\n\r\n");
    }
}
