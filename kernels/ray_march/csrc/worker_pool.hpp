// Threads that work on one frame together. The caller is worker 0; with one worker there are no threads.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

class WorkerPool {
 public:
  explicit WorkerPool(int workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int workers() const { return static_cast<int>(threads_.size()) + 1; }
  // Calls task(worker) once in every worker; returns when all are done.
  void run(const std::function<void(int)>& task);

 private:
  void loop(int worker);
  void stop();

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  unsigned round_ = 0;
  int busy_ = 0;
  bool stopping_ = false;
  const std::function<void(int)>* task_ = nullptr;
};
