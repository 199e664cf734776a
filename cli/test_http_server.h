// A small HTTP server on 127.0.0.1 for tests of downloads: serves what it is told, and misbehaves on request.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace apr {

struct ServedFile {
  std::string body;
  int status = 200;
  std::string redirect;                  // a path or URL to go to instead
  bool ranges = true;                    // false: a range that is asked for is ignored
  std::optional<size_t> break_after;     // the connection ends after so many bytes of the body, once
  int failures = 0;                      // so many answers of 503 first
};

class TestHttpServer {
 public:
  TestHttpServer();
  ~TestHttpServer();
  TestHttpServer(const TestHttpServer&) = delete;
  TestHttpServer& operator=(const TestHttpServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void Serve(const std::string& path, ServedFile file);
  // "GET /path" or "GET /path bytes=10-" for every request so far.
  std::vector<std::string> Requests() const;
  void Forget();  // the requests

 private:
  void Loop();
  void Answer(int connection);

  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::map<std::string, ServedFile> files_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace apr
