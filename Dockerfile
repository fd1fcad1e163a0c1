# An image with the single file and a Python to run it; see docs/deploy.md.
FROM python:3.14-slim AS build
WORKDIR /build
COPY build_zipapp.py LICENSE ./
COPY broadcast_server broadcast_server
RUN ["python3", "build_zipapp.py"]

FROM python:3.14-slim
COPY --from=build /build/broadcast-server.pyz /opt/broadcast-server.pyz
RUN ["install", "--directory", "--owner=nobody", "/data"]
USER nobody
VOLUME /data
ENV BROADCAST_HOST=0.0.0.0 BROADCAST_PORT=8765
EXPOSE 8765
HEALTHCHECK --start-period=20s --interval=30s --timeout=5s \
    CMD ["python3", "-IS", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', os.environ['BROADCAST_PORT'], timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python3", "/opt/broadcast-server.pyz"]
CMD ["start"]
