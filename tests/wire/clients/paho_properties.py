"""MQTT 5 properties between the matrix's words and paho-mqtt's, which aiomqtt uses, too."""

from typing import Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from tests.wire.clients.adapter import Opening, Properties

_WORDS: Final = {
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "expiry_s": "MessageExpiryInterval",
    "topic_alias": "TopicAlias",
}


def of_packet(kind: int, **values: object) -> PahoProperties:
    """The properties of a packet of this kind; None and empty ones are left out."""
    made = PahoProperties(kind)  # type: ignore[no-untyped-call]
    for word, value in values.items():
        if value not in (None, ()):
            setattr(made, word, value)
    return made


def of_message(properties: Properties, kind: int = PacketTypes.PUBLISH) -> PahoProperties:
    """The properties of a PUBLISH, or of the will in a CONNECT."""
    words = {theirs: getattr(properties, ours) for ours, theirs in _WORDS.items()}
    return of_packet(kind, **words, UserProperty=list(properties.user) or None)


def of_connect(opening: Opening) -> PahoProperties:
    """The properties of a CONNECT."""
    expiry_s, alias_max = opening.session_expiry_s, opening.alias_max
    return of_packet(PacketTypes.CONNECT, SessionExpiryInterval=expiry_s, TopicAliasMaximum=alias_max or None)


def of_subscribe(identifier: int) -> PahoProperties:
    """The properties of a SUBSCRIBE; 0: no identifier."""
    return of_packet(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier or None)


def received(theirs: PahoProperties | None) -> Properties:
    """The properties of a message that came; None before MQTT 5."""
    return Properties(
        **{ours: getattr(theirs, word, None) for ours, word in _WORDS.items()},
        user=tuple(getattr(theirs, "UserProperty", ())),
        subscription_ids=tuple(getattr(theirs, "SubscriptionIdentifier", ())),
    )
