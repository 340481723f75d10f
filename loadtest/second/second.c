// A second load generator, written apart from the first to check it: the same work, other code, another language.
//
//   cc -O2 -o second second.c
//   second PORT PID publish CORPUS COUNT CONNECTIONS IN_FLIGHT [RATE]
//   second PORT PID by-id   CORPUS COUNT CONNECTIONS IN_FLIGHT [RATE]
//
// `publish` sends the first COUNT events of CORPUS (JSONL), dealt to the connections in turn, and waits for each OK:
// IN_FLIGHT unanswered on each connection, or RATE per second over all of them. `by-id` asks for one of the first COUNT
// public events by its id, waits for EOSE and sends CLOSE. They must be stored. PID is the relay's process; 0 if its
// CPU time does not matter.
//
// Prints one JSON object: units, seconds, per_second, relay_cpu_us_per_unit, p50_us, p99_us, refused, rows.
// Linux, IPv4 loopback, no TLS, no compression. It judges nothing but what it counts: the first generator does that.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ID = 64, MAX_CONNECTIONS = 256, READ = 1 << 18, GIVE_UP_MS = 20000 };
static const uint8_t MASK[4] = {0x12, 0x9a, 0x5c, 0xe7};

struct bytes { uint8_t *at; size_t len, room; };
struct question { char id[ID]; struct bytes frame; };
struct flight { size_t question; uint64_t since; };
struct connection {
  int fd;
  struct bytes out, in;
  struct flight *flights;
  size_t in_flight, next;
};

static struct question *questions;
static struct connection connections[MAX_CONNECTIONS];
static uint64_t *latencies;
static size_t count, connection_count, window, answered, sent, refused, rows;
static bool queries;

static void die(const char *what) {
  fprintf(stderr, "second: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
  exit(1);
}

static uint64_t now_ns(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time)) die("clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now(void) { return now_ns(CLOCK_MONOTONIC); }

static void append(struct bytes *to, const void *from, size_t len) {
  if (to->len + len > to->room) {
    to->room = (to->len + len) * 2;
    to->at = realloc(to->at, to->room);
    if (!to->at) die("realloc");
  }
  memcpy(to->at + to->len, from, len);
  to->len += len;
}

static void drop_front(struct bytes *from, size_t len) {
  memmove(from->at, from->at + len, from->len - len);
  from->len -= len;
}

// A masked frame (RFC 6455 section 5.2).
static void append_frame(struct bytes *to, uint8_t opcode, const char *text, size_t len) {
  uint8_t head[14] = {0x80 | opcode};
  size_t size = 2;
  if (len < 126) {
    head[1] = 0x80 | (uint8_t)len;
  } else if (len < 65536) {
    head[1] = 0x80 | 126, head[2] = (uint8_t)(len >> 8), head[3] = (uint8_t)len, size = 4;
  } else {
    head[1] = 0x80 | 127, size = 10;
    for (int byte = 0; byte < 8; byte++) head[2 + byte] = (uint8_t)((uint64_t)len >> (56 - 8 * byte));
  }
  memcpy(head + size, MASK, 4);
  append(to, head, size + 4);
  size_t start = to->len;
  append(to, text, len);
  for (size_t at = 0; at < len; at++) to->at[start + at] ^= MASK[at % 4];
}

static void encode(struct question *question, const char *format, ...) {
  va_list values;
  char *text = NULL;
  va_start(values, format);
  int size = vasprintf(&text, format, values);
  va_end(values);
  if (size < 0) die("vasprintf");
  append_frame(&question->frame, 1, text, (size_t)size);
  free(text);
}

// xorshift64; Marsaglia, "Xorshift RNGs", 2003.
static size_t random_below(size_t bound) {
  static uint64_t state = 0x9e3779b97f4a7c15;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % bound;
}

// Reads the corpus and encodes every question before the clock starts.
static void prepare(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) die(path);
  questions = calloc(count, sizeof *questions);
  latencies = calloc(count, sizeof *latencies);
  char(*ids)[ID] = calloc(count, ID);
  char *line = NULL;
  size_t room = 0, found = 0;
  for (ssize_t len; found < count && (len = getline(&line, &room, file)) > 0;) {
    if (line[len - 1] == '\n') line[--len] = 0;
    const char *id = strstr(line, "\"id\":\""), *kind = strstr(line, "\"kind\":");
    if (!id || !kind) die("a line without id or kind");
    int number = atoi(kind + 7);
    // A relay may hide private messages from strangers.
    if (queries && (number == 4 || number == 1059 || number == 1060)) continue;
    memcpy(ids[found], id + 6, ID);
    if (!queries) encode(&questions[found], "[\"EVENT\",%s]", line);
    found++;
  }
  if (found < count) die("the corpus has too few events");
  for (size_t number = 0; number < count; number++) {
    // Events that were stored together lie together, so a relay answers faster if they are asked for in their order.
    const char *id = ids[queries ? random_below(count) : number];
    memcpy(questions[number].id, id, ID);
    if (queries) encode(&questions[number], "[\"REQ\",\"q%zu\",{\"ids\":[\"%.64s\"]}]", number, id);
  }
  free(ids);
  free(line);
  fclose(file);
}

static int upgrade(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  char text[512];
  int len = snprintf(text, sizeof text,
                     "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", port);
  if (write(fd, text, (size_t)len) != len) die("write");
  // Byte by byte: what follows the head belongs to the frames.
  char head[4096];
  for (size_t at = 0; at < sizeof head - 1; at++) {
    if (read(fd, head + at, 1) != 1) die("no answer to the upgrade");
    head[at + 1] = 0;
    if (at > 3 && !memcmp(head + at - 3, "\r\n\r\n", 4)) break;
  }
  if (strncmp(head, "HTTP/1.1 101", 12)) die("the upgrade is refused");
  if (fcntl(fd, F_SETFL, O_NONBLOCK)) die("fcntl");
  return fd;
}

static void flush(struct connection *connection) {
  while (connection->out.len) {
    ssize_t written = write(connection->fd, connection->out.at, connection->out.len);
    if (written < 0 && errno == EAGAIN) return;
    if (written <= 0) die("write");
    drop_front(&connection->out, (size_t)written);
  }
}

// Question `next` of this connection; false if it has no more.
static bool ask(struct connection *connection, uint64_t since) {
  if (connection->next >= count) return false;
  const struct question *question = &questions[connection->next];
  append(&connection->out, question->frame.at, question->frame.len);
  connection->flights[connection->in_flight++] = (struct flight){connection->next, since};
  connection->next += connection_count;
  sent++;
  return true;
}

static void answer(struct connection *connection, size_t flight, uint64_t at) {
  latencies[answered++] = at - connection->flights[flight].since;
  connection->flights[flight] = connection->flights[--connection->in_flight];
}

static void take(struct connection *connection, const char *text, size_t len, uint64_t at) {
  if (len > 7 + ID && !memcmp(text, "[\"OK\",\"", 7)) {
    for (size_t flight = 0; flight < connection->in_flight; flight++) {
      if (memcmp(questions[connection->flights[flight].question].id, text + 7, ID)) continue;
      refused += memmem(text, len, ",true,", 6) == NULL;
      return answer(connection, flight, at);
    }
    die("an OK for nothing that was sent");
  } else if (len > 10 && !memcmp(text, "[\"EOSE\",\"q", 10)) {
    size_t question = (size_t)atol(text + 10), flight = 0;
    while (flight < connection->in_flight && connection->flights[flight].question != question) flight++;
    if (flight == connection->in_flight) die("EOSE for nothing that was asked");
    char close[64];
    append_frame(&connection->out, 1, close, (size_t)snprintf(close, sizeof close, "[\"CLOSE\",\"q%zu\"]", question));
    answer(connection, flight, at);
  } else if (len > 9 && !memcmp(text, "[\"EVENT\",", 9)) {
    rows++;
  }
}

// Takes every whole frame of the buffer.
static void take_all(struct connection *connection, uint64_t at) {
  struct bytes *in = &connection->in;
  size_t used = 0;
  while (in->len - used >= 2) {
    const uint8_t *frame = in->at + used;
    size_t left = in->len - used, head = 2, len = frame[1];
    if (len == 126) {
      if (left < 4) break;
      head = 4, len = (size_t)frame[2] << 8 | frame[3];
    } else if (len == 127) {
      if (left < 10) break;
      head = 10, len = 0;
      for (int byte = 0; byte < 8; byte++) len = len << 8 | frame[2 + byte];
    }
    if (left < head + len) break;
    if (frame[0] == 0x81) take(connection, (const char *)frame + head, len, at);
    else if (frame[0] == 0x89) append_frame(&connection->out, 10, (const char *)frame + head, len);
    else if (frame[0] != 0x8a) die("a frame that is not expected");
    used += head + len;
  }
  drop_front(in, used);
}

static void receive(struct connection *connection) {
  static uint8_t buffer[READ];
  ssize_t len = read(connection->fd, buffer, sizeof buffer);
  if (len < 0 && errno == EAGAIN) return;
  if (len <= 0) die("the relay closed a connection");
  append(&connection->in, buffer, (size_t)len);
  take_all(connection, now());
}

// Asks and answers until everything is answered; returns when the last answer came.
static uint64_t run(uint64_t start, double rate) {
  struct pollfd polls[MAX_CONNECTIONS];
  uint64_t last = start;
  size_t due = 0;
  while (answered < count) {
    uint64_t at = now(), next = UINT64_MAX;
    if (rate > 0) {
      for (; due < count; due++) {
        next = start + (uint64_t)((double)due / rate * 1e9);
        if (next > at) break;
        ask(&connections[due % connection_count], next);
      }
      if (due == count) next = UINT64_MAX;
    }
    for (size_t number = 0; number < connection_count; number++) {
      struct connection *connection = &connections[number];
      // The clock of a question starts right before its write.
      if (rate <= 0 && connection->in_flight < window) at = now();
      while (rate <= 0 && connection->in_flight < window && ask(connection, at)) {}
      flush(connection);
      polls[number] = (struct pollfd){connection->fd, POLLIN, 0};
      if (connection->out.len) polls[number].events |= POLLOUT;
    }
    struct timespec wait = {GIVE_UP_MS / 1000, 0};
    if (next != UINT64_MAX) {
      uint64_t left = next > at ? next - at : 0;
      wait = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    }
    int ready = ppoll(polls, connection_count, &wait, NULL);
    if (ready < 0) die("ppoll");
    if (!ready && next == UINT64_MAX) die("no answer");
    for (size_t number = 0; number < connection_count; number++) {
      if (polls[number].revents & (POLLIN | POLLERR | POLLHUP)) receive(&connections[number]), last = now();
    }
  }
  return last;
}

static int ascending(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double quantile_us(double quantile) {
  size_t rank = (size_t)(quantile * (double)answered + 0.999999);
  return (double)latencies[rank ? rank - 1 : 0] / 1000;
}

int main(int arguments, char **argument) {
  if (arguments < 8) {
    fprintf(stderr, "usage: second PORT PID publish|by-id CORPUS COUNT CONNECTIONS IN_FLIGHT [RATE]\n");
    return 2;
  }
  int port = atoi(argument[1]), pid = atoi(argument[2]);
  queries = !strcmp(argument[3], "by-id");
  count = (size_t)atol(argument[5]), connection_count = (size_t)atol(argument[6]), window = (size_t)atol(argument[7]);
  double rate = arguments > 8 ? atof(argument[8]) : 0;
  // Otherwise ppoll sleeps up to 50 us longer than told, and that would be counted as the relay's.
  if (prctl(PR_SET_TIMERSLACK, 1)) die("prctl");
  if (!count || !connection_count || connection_count > MAX_CONNECTIONS || !window) die("a number out of range");
  prepare(argument[4]);
  for (size_t number = 0; number < connection_count; number++) {
    size_t most = rate > 0 ? count / connection_count + 1 : window;
    connections[number] = (struct connection){.fd = upgrade(port), .next = number};
    connections[number].flights = calloc(most, sizeof(struct flight));
  }
  clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
  if (pid && clock_getcpuclockid(pid, &clock)) die("the CPU clock of the relay");
  uint64_t spent = now_ns(clock), start = now(), end = run(start, rate);
  spent = now_ns(clock) - spent;
  qsort(latencies, answered, sizeof *latencies, ascending);
  double seconds = (double)(end - start) / 1e9;
  printf("{\"units\": %zu, \"seconds\": %.6f, \"per_second\": %.3f, ", answered, seconds, (double)answered / seconds);
  if (pid) printf("\"relay_cpu_us_per_unit\": %.3f, ", (double)spent / 1000 / (double)answered);
  printf("\"p50_us\": %.3f, \"p99_us\": %.3f, ", quantile_us(0.5), quantile_us(0.99));
  printf("\"refused\": %zu, \"rows\": %zu}\n", refused, rows);
  return 0;
}
