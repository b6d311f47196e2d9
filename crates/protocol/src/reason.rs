//! The reason codes of MQTT 5.0 (section 2.4) and their 3.1.1 counterparts in CONNACK (section 3.2.2.3).
//!
//! Knows numbers, names and the packets that may carry each. Does not know when a code is sent.

/// A reason code as it stands on the wire; 0x80 and above are failures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReasonCode(pub u8);

macro_rules! reason_codes {
    ($($name:ident = $code:literal, $text:literal, $packets:expr;)*) => {
        impl ReasonCode {
            $(#[doc = $text] pub const $name: ReasonCode = ReasonCode($code);)*

            /// The specification's words for this code.
            pub fn text(self) -> &'static str {
                match self.0 { $($code => $text,)* _ => "unknown reason code" }
            }

            /// The packets that may carry this code, as bits of `properties::carrier`; 0: there is no such code.
            pub fn packets(self) -> u16 {
                use crate::properties::carrier::*;
                match self.0 { $($code => $packets,)* _ => 0 }
            }
        }
    };
}

// Code, words, and the packets of section 2.4, table 2-6.
reason_codes! {
    SUCCESS = 0x00, "success", CONNACK | PUBACK | PUBREC | PUBREL | PUBCOMP | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    GRANTED_QOS_1 = 0x01, "granted QoS 1", SUBACK;
    GRANTED_QOS_2 = 0x02, "granted QoS 2", SUBACK;
    DISCONNECT_WITH_WILL = 0x04, "disconnect with will message", DISCONNECT;
    NO_MATCHING_SUBSCRIBERS = 0x10, "no matching subscribers", PUBACK | PUBREC;
    NO_SUBSCRIPTION_EXISTED = 0x11, "no subscription existed", UNSUBACK;
    CONTINUE_AUTHENTICATION = 0x18, "continue authentication", AUTH;
    RE_AUTHENTICATE = 0x19, "re-authenticate", AUTH;
    UNSPECIFIED_ERROR = 0x80, "unspecified error", CONNACK | PUBACK | PUBREC | SUBACK | UNSUBACK | DISCONNECT;
    MALFORMED_PACKET = 0x81, "malformed packet", CONNACK | DISCONNECT;
    PROTOCOL_ERROR = 0x82, "protocol error", CONNACK | DISCONNECT;
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "implementation specific error", CONNACK | PUBACK | PUBREC | SUBACK | UNSUBACK | DISCONNECT;
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "unsupported protocol version", CONNACK;
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "client identifier not valid", CONNACK;
    BAD_USER_NAME_OR_PASSWORD = 0x86, "bad user name or password", CONNACK;
    NOT_AUTHORIZED = 0x87, "not authorized", CONNACK | PUBACK | PUBREC | SUBACK | UNSUBACK | DISCONNECT;
    SERVER_UNAVAILABLE = 0x88, "server unavailable", CONNACK;
    SERVER_BUSY = 0x89, "server busy", CONNACK | DISCONNECT;
    BANNED = 0x8A, "banned", CONNACK;
    SERVER_SHUTTING_DOWN = 0x8B, "server shutting down", DISCONNECT;
    BAD_AUTHENTICATION_METHOD = 0x8C, "bad authentication method", CONNACK | DISCONNECT;
    KEEP_ALIVE_TIMEOUT = 0x8D, "keep alive timeout", DISCONNECT;
    SESSION_TAKEN_OVER = 0x8E, "session taken over", DISCONNECT;
    TOPIC_FILTER_INVALID = 0x8F, "topic filter invalid", SUBACK | UNSUBACK | DISCONNECT;
    TOPIC_NAME_INVALID = 0x90, "topic name invalid", CONNACK | PUBACK | PUBREC | DISCONNECT;
    PACKET_IDENTIFIER_IN_USE = 0x91, "packet identifier in use", PUBACK | PUBREC | SUBACK | UNSUBACK;
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "packet identifier not found", PUBREL | PUBCOMP;
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive maximum exceeded", DISCONNECT;
    TOPIC_ALIAS_INVALID = 0x94, "topic alias invalid", DISCONNECT;
    PACKET_TOO_LARGE = 0x95, "packet too large", CONNACK | DISCONNECT;
    MESSAGE_RATE_TOO_HIGH = 0x96, "message rate too high", DISCONNECT;
    QUOTA_EXCEEDED = 0x97, "quota exceeded", CONNACK | PUBACK | PUBREC | SUBACK | DISCONNECT;
    ADMINISTRATIVE_ACTION = 0x98, "administrative action", DISCONNECT;
    PAYLOAD_FORMAT_INVALID = 0x99, "payload format invalid", CONNACK | PUBACK | PUBREC | DISCONNECT;
    RETAIN_NOT_SUPPORTED = 0x9A, "retain not supported", CONNACK | DISCONNECT;
    QOS_NOT_SUPPORTED = 0x9B, "QoS not supported", CONNACK | DISCONNECT;
    USE_ANOTHER_SERVER = 0x9C, "use another server", CONNACK | DISCONNECT;
    SERVER_MOVED = 0x9D, "server moved", CONNACK | DISCONNECT;
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E, "shared subscriptions not supported", SUBACK | DISCONNECT;
    CONNECTION_RATE_EXCEEDED = 0x9F, "connection rate exceeded", CONNACK | DISCONNECT;
    MAXIMUM_CONNECT_TIME = 0xA0, "maximum connect time", DISCONNECT;
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1, "subscription identifiers not supported", SUBACK | DISCONNECT;
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2, "wildcard subscriptions not supported", SUBACK | DISCONNECT;
}

impl ReasonCode {
    /// Whether the code tells of a failure (MQTT 5.0 section 2.4: 0x80 or greater).
    pub fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// Whether a packet of this kind, named by its bit in `properties::carrier`, may carry the code.
    pub fn fits(self, carrier: u16) -> bool {
        self.packets() & carrier != 0
    }

    /// This code, or `other` where a packet of this kind cannot carry it.
    pub fn or(self, other: ReasonCode, carrier: u16) -> ReasonCode {
        if self.fits(carrier) { self } else { other }
    }

    /// The CONNACK return code of MQTT 3.1.1 (section 3.2.2.3) that comes nearest.
    pub fn connect_return_code(self) -> u8 {
        match self {
            ReasonCode::SUCCESS => 0,
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => 1,
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => 2,
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => 4,
            ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => 5,
            _ => 3,
        }
    }
}
