//! Stable numbers for everything that a broker can refuse.

use core::fmt;

/// What went wrong, as a number that is never reused for anything else.
///
/// 1-99: the peer broke the protocol and the connection ends. 100-199: this request can never
/// succeed as it is. 200-299: the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: ErrorCode = ErrorCode($number);)*

            /// The code's name in words; codes of a newer peer read as "unknown error".
            #[must_use]
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown error",
                }
            }
        }

        #[cfg(test)]
        pub(crate) const ALL: &[(u16, &str)] = &[$(($number, $text)),*];
    };
}

codes! {
    /// The bytes are not a frame, or its checksum is wrong.
    BAD_FRAME = 1, "malformed frame";
    /// A frame, control archive or payload is larger than its limit.
    FRAME_TOO_LARGE = 2, "frame over the size limit";
    /// The hello names no protocol version that this side speaks.
    UNSUPPORTED_VERSION = 3, "no common protocol version";
    /// A frame that is not allowed in this state, such as one before the hello.
    UNEXPECTED_FRAME = 4, "frame not allowed in this state";
    /// More requests in flight, subscriptions or credit than the limits allow.
    LIMIT_EXCEEDED = 5, "limit exceeded";

    /// No topic of that name or number.
    UNKNOWN_TOPIC = 100, "unknown topic";
    /// The topic has fewer partitions than that.
    UNKNOWN_PARTITION = 101, "unknown partition";
    /// No subscription of that number on this connection.
    UNKNOWN_SUBSCRIPTION = 102, "unknown subscription";
    /// A name is empty, too long, or has characters outside `[A-Za-z0-9._-]`.
    INVALID_NAME = 103, "invalid name";
    /// A field of the request is out of range.
    INVALID_REQUEST = 104, "invalid request";
    /// The batch's header, length or checksum is wrong.
    BAD_BATCH = 105, "malformed batch";
    /// The sequence leaves a hole, or is older than what the broker remembers.
    OUT_OF_ORDER_SEQUENCE = 106, "out-of-order sequence";
    /// A newer epoch of this producer is known.
    FENCED_EPOCH = 107, "producer epoch fenced off";
    /// The topic exists with other settings.
    TOPIC_EXISTS = 108, "topic exists with other settings";
    /// The lease has expired, was taken over, or never was this member's.
    LEASE_LOST = 109, "lease lost";
    /// The wanted offset lies outside the log.
    OFFSET_OUT_OF_RANGE = 110, "offset out of range";
    /// No consumer group of that name on this partition.
    UNKNOWN_GROUP = 111, "unknown consumer group";
    /// The group has members; stop them first.
    GROUP_ACTIVE = 112, "consumer group has members";
    /// Records of the broker itself are damaged, and it cannot go on without them: somebody has to
    /// mend its files.
    DATA_DAMAGED = 113, "the broker's data are damaged";

    /// The partition waits for recovery of its log.
    PARTITION_OFFLINE = 200, "partition offline";
    /// The broker is shutting down.
    DRAINING = 201, "broker is draining";
    /// A queue of the broker is full; slow down.
    OVERLOADED = 202, "broker overloaded";
    /// The disk is full.
    NO_SPACE = 203, "no space left on the broker's disk";
    /// A disk operation failed; what became of the request is unknown.
    STORAGE_FAILED = 204, "broker storage failed";
    /// The broker has its maximum number of consumers.
    TOO_MANY_CONSUMERS = 205, "too many consumers";
    /// The broker has its maximum number of topics or partitions.
    TOO_MANY_TOPICS = 206, "too many topics";
    /// The peer said nothing, ended no frame or read nothing for too long; the connection ends.
    TIMED_OUT = 207, "peer took too long";
}

impl ErrorCode {
    /// The connection cannot go on after this.
    #[must_use]
    pub fn is_fatal(self) -> bool {
        self.0 < 100
    }

    /// The same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        (200..300).contains(&self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.text(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn numbers_and_texts_are_unique() {
        for (i, (number, text)) in ALL.iter().enumerate() {
            for (other_number, other_text) in &ALL[i + 1..] {
                assert!(number != other_number && text != other_text, "{number} {text}");
            }
        }
    }
}
