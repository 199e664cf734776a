// See test_http_server.h.
#include "cli/test_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace apr {
namespace {

void SendAll(int connection, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

// The value of a header's field in a request, as the client wrote it.
std::string Field(const std::string& request, const std::string& name) {
  const size_t at = request.find("\r\n" + name + ": ");
  if (at == request.npos) return "";
  const size_t start = at + name.size() + 4;
  return request.substr(start, request.find("\r\n", start) - start);
}

}  // namespace

TestHttpServer::TestHttpServer() {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Loop(); });
}

TestHttpServer::~TestHttpServer() {
  stop_ = true;
  thread_.join();
  close(listener_);
}

void TestHttpServer::Serve(const std::string& path, ServedFile file) {
  const std::lock_guard<std::mutex> lock(mutex_);
  files_[path] = std::move(file);
}

std::vector<std::string> TestHttpServer::Requests() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return requests_;
}

void TestHttpServer::Forget() {
  const std::lock_guard<std::mutex> lock(mutex_);
  requests_.clear();
}

void TestHttpServer::Loop() {
  while (!stop_) {
    pollfd ready{listener_, POLLIN, 0};
    if (poll(&ready, 1, 20) <= 0) continue;
    const int connection = accept(listener_, nullptr, nullptr);
    if (connection < 0) continue;
    Answer(connection);
    close(connection);
  }
}

void TestHttpServer::Answer(int connection) {
  std::string request;
  char buffer[4096];
  while (request.find("\r\n\r\n") == request.npos) {
    const ssize_t got = recv(connection, buffer, sizeof buffer, 0);
    if (got <= 0) return;
    request.append(buffer, static_cast<size_t>(got));
  }
  const size_t path_end = request.find(' ', 4);
  const std::string path = request.substr(4, path_end - 4);
  const std::string range = Field(request, "Range");
  ServedFile file;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests_.push_back("GET " + path + (range.empty() ? "" : " " + range));
    const auto found = files_.find(path);
    if (found == files_.end()) {
      file.status = 404;
    } else {
      file = found->second;
      if (found->second.failures > 0) --found->second.failures, file.status = 503;
      else found->second.break_after.reset();
    }
  }
  const std::string head = "HTTP/1.1 ";
  const std::string close = "\r\nConnection: close\r\n";
  if (!file.redirect.empty()) return SendAll(connection, head + "302 Found\r\nLocation: " + file.redirect + "\r\nContent-Length: 0" + close + "\r\n");
  if (file.status != 200) return SendAll(connection, head + std::to_string(file.status) + " Problem\r\nContent-Length: 4" + close + "\r\noops");
  size_t first = 0;
  if (file.ranges && range.starts_with("bytes=")) first = std::stoull(range.substr(6));
  if (first > 0 && first >= file.body.size()) return SendAll(connection, head + "416 Range Not Satisfiable\r\nContent-Length: 0" + close + "\r\n");
  const std::string body = file.body.substr(first);
  std::string answer = head + (first > 0 ? "206 Partial Content" : "200 OK") + "\r\nContent-Length: " + std::to_string(body.size()) + close;
  if (first > 0) answer += "Content-Range: bytes " + std::to_string(first) + "-" + std::to_string(file.body.size() - 1) + "/" + std::to_string(file.body.size()) + "\r\n";
  SendAll(connection, answer + "\r\n" + body.substr(0, file.break_after.value_or(body.size())));
}

}  // namespace apr
