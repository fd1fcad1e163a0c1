"""The standalone server on asyncio: listening, connections, and the rooms behind one address."""
