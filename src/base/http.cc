// See http.h.
#include "base/http.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace apr {
namespace {

constexpr int kTries = 3;
constexpr long kConnectSeconds = 15;
constexpr long kStalledSeconds = 60;  // without a byte: given up
constexpr long kMaxRedirects = 10;

bool Says(const char* value) {
  const std::string_view text = value == nullptr ? "" : value;
  return !text.empty() && text != "0" && text != "false" && text != "FALSE" && text != "no";
}

// libcurl, loaded when something is first fetched: with its thirty libraries it is half of what a command that
// fetches nothing would hold in memory. Never unloaded.
class Curl {
 public:
  static const Curl& Get() {
    static const Curl kCurl;
    return kCurl;
  }

  decltype(&curl_easy_init) easy_init;
  decltype(&curl_easy_cleanup) easy_cleanup;
  decltype(&curl_easy_perform) easy_perform;
  decltype(&curl_easy_setopt) easy_setopt;
  decltype(&curl_easy_getinfo) easy_getinfo;
  decltype(&curl_easy_strerror) easy_strerror;

 private:
  Curl() {
    library_ = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw Error(ErrorCode::kNetwork, fmt::format("libcurl cannot be loaded: {}", dlerror()));
    Find(easy_init, "curl_easy_init");
    Find(easy_cleanup, "curl_easy_cleanup");
    Find(easy_perform, "curl_easy_perform");
    Find(easy_setopt, "curl_easy_setopt");
    Find(easy_getinfo, "curl_easy_getinfo");
    Find(easy_strerror, "curl_easy_strerror");
    decltype(&curl_global_init) global_init;
    Find(global_init, "curl_global_init");
    APR_CHECK(global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
  }

  template <typename Function>
  void Find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr) throw Error(ErrorCode::kNetwork, fmt::format("libcurl has no function {}", name));
  }

  void* library_ = nullptr;
};

class Transfer {
 public:
  Transfer(const HttpRequest& request, const std::function<void(uint64_t)>& begin, const std::function<void(Bytes)>& sink)
      : request_(request), begin_(begin), sink_(sink), api_(Curl::Get()), curl_(api_.easy_init(), api_.easy_cleanup) {
    APR_CHECK(curl_ != nullptr);
    Set(CURLOPT_URL, request.url.c_str());
    Set(CURLOPT_FOLLOWLOCATION, 1L);
    Set(CURLOPT_MAXREDIRS, kMaxRedirects);
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    Set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    Set(CURLOPT_LOW_SPEED_TIME, kStalledSeconds);
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_USERAGENT, "apr");
    Set(CURLOPT_ERRORBUFFER, reason_);
    // Not CURLOPT_RESUME_FROM, for which a server that sends the whole is an error.
    if (request.first_byte > 0) Set(CURLOPT_RANGE, fmt::format("{}-", request.first_byte).c_str());
    Set(CURLOPT_WRITEFUNCTION, &Transfer::Write);
    Set(CURLOPT_WRITEDATA, this);
  }

  // The status that the server gave; 0 when there was no answer.
  long Run() {
    code_ = api_.easy_perform(curl_.get());
    if (thrown_) std::rethrow_exception(thrown_);
    return Status();
  }

  bool complete() const { return code_ == CURLE_OK; }
  bool started() const { return started_; }
  const HttpResult& result() const { return result_; }
  std::string Reason() const { return reason_[0] != '\0' ? reason_ : api_.easy_strerror(code_); }
  void Start() {  // of a body, which may be empty
    if (std::exchange(started_, true)) return;
    result_.first_byte = Status() == 206 ? request_.first_byte : 0;
    begin_(result_.first_byte);
  }

 private:
  template <typename T>
  void Set(CURLoption option, T value) {
    APR_CHECK(api_.easy_setopt(curl_.get(), option, value) == CURLE_OK);
  }

  long Status() const {
    long status = 0;
    api_.easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    return status;
  }

  static size_t Write(char* data, size_t size, size_t count, void* self) {
    return static_cast<Transfer*>(self)->Take({reinterpret_cast<const std::byte*>(data), size * count});
  }

  // The body of an error is not the file's.
  size_t Take(Bytes bytes) {
    const long status = Status();
    if (status != 200 && status != 206) return bytes.size();
    try {
      Start();
      sink_(bytes);
      result_.bytes += bytes.size();
      return bytes.size();
    } catch (...) {
      thrown_ = std::current_exception();
      return 0;
    }
  }

  const HttpRequest& request_;
  const std::function<void(uint64_t)>& begin_;
  const std::function<void(Bytes)>& sink_;
  const Curl& api_;
  std::unique_ptr<CURL, void (*)(CURL*)> curl_;
  char reason_[CURL_ERROR_SIZE] = {};
  CURLcode code_ = CURLE_OK;
  bool started_ = false;
  HttpResult result_;
  std::exception_ptr thrown_;
};

}  // namespace

bool IsOffline(bool offline_flag) { return offline_flag || Says(std::getenv("APR_OFFLINE")) || Says(std::getenv("HF_HUB_OFFLINE")); }

Network Network::Get(bool offline_flag, const std::string& purpose) {
  if (IsOffline(offline_flag)) throw Error(ErrorCode::kNetwork, "offline: " + purpose);
  return {};
}

HttpResult HttpGet(const Network&, const HttpRequest& request, const std::function<void(uint64_t)>& begin,
                   const std::function<void(Bytes)>& sink) {
  for (int tried = 1;; ++tried) {
    Transfer transfer(request, begin, sink);
    const long status = transfer.Run();
    if (status == 404) throw Error(ErrorCode::kHttpNotFound, "HTTP 404: the server has no " + request.url);
    // Everything was there already.
    if (status == 416 && request.first_byte > 0) return {request.first_byte, 0};
    if (transfer.complete() && (status == 200 || status == 206)) {
      transfer.Start();
      return transfer.result();
    }
    const bool may_pass = !transfer.started() && (status == 0 || status >= 500);
    if (!may_pass || tried == kTries) {
      const std::string why = !transfer.complete() ? transfer.Reason() : fmt::format("HTTP {}", status);
      throw Error(ErrorCode::kNetwork, fmt::format("{}: {}", request.url, why));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200 * tried));
  }
}

std::string HttpGetText(const Network& network, const std::string& url, uint64_t limit) {
  std::string out;
  HttpGet(network, {.url = url}, [](uint64_t) {}, [&](Bytes bytes) {
    if (out.size() + bytes.size() > limit) throw Error(ErrorCode::kNetwork, url + ": the answer is too long");
    out += AsText(bytes);
  });
  return out;
}

std::string UrlEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("-._~/").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace apr
