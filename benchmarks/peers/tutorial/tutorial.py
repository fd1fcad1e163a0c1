"""The chat at the end of the Channels tutorial: asynchronous, with one group for each room.

A Django project in one module: `daphne tutorial:application`. With REDIS_URL, it uses the
channel layer of the tutorial, otherwise the one in memory.
"""

import json
import os

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import re_path

LAYER = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
if "REDIS_URL" in os.environ:
    LAYER = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
    }

settings.configure(
    SECRET_KEY="none to keep here",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={"default": LAYER},
)
django.setup()


class ChatConsumer(AsyncWebsocketConsumer):
    """One connection: its messages are sent to the group of its room."""

    async def connect(self) -> None:
        """Join the group of the room in the URL."""
        self.group = "chat_" + self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str) -> None:
        """Send a message to the group."""
        message = json.loads(text_data)["message"]
        await self.channel_layer.group_send(
            self.group, {"type": "chat.message", "message": message}
        )

    async def chat_message(self, event: dict) -> None:
        """Send a message of the group to the client."""
        await self.send(text_data=json.dumps({"message": event["message"]}))


urlpatterns: list = []
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([re_path(r"ws/chat/(?P<room>\w+)/$", ChatConsumer.as_asgi())]),
    }
)
