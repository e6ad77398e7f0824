# An image with the collector, the files that it loads, and nothing else. The steps are in ops/docker/build.sh. The tests
# run the files of the image without a container engine.
#
#   docker build -t avtryck .
#   docker run -p 8080:8080 -v avtryck:/var/lib/avtryck -e AVTRYCK_DATABASE_URL=postgres://… avtryck

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN ops/docker/build.sh /image

FROM scratch
COPY --from=build /image /
USER 65532:65532
WORKDIR /var/lib/avtryck
VOLUME /var/lib/avtryck
ENV AVTRYCK_CONFIG=/etc/avtryck/avtryck.toml
EXPOSE 8080 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/bin/avtryck", "healthy"]
ENTRYPOINT ["/usr/bin/avtryck"]
CMD ["serve", "--take-over"]
