"""An address, typed by what its receiver accepts: a wrong message is a type error."""

from typing import Protocol, TypeVar

Message_contra = TypeVar("Message_contra", contravariant=True)


class Ref(Protocol[Message_contra]):
    def tell(self, message: Message_contra) -> None:
        """Put a message into the receiver's inbox and return at once; a receiver that is gone ignores it."""
        ...
